
// Products from tiles in workgroup memory (matmul_load). A lane owns one block of 4 by 4 outputs, or four (BLOCKS = 2, twice 4 each
// way). It reads four of its rows or columns in one load, and neighbours read neighbours, so no two meet in a bank.
// With SLICES > 1 there are that many teams of lanes for the same outputs; they share the steps of k and add up at the end.

// Set by the variant: blocks of a lane each way, teams that share the steps.
const BLOCKS: u32 = 2u;
const SLICES: u32 = 1u;

const LANES_M: u32 = BM / 4u / BLOCKS;
const LANES_N: u32 = BN / 4u / BLOCKS;
const TEAM: u32 = LANES_M * LANES_N;
const LANES: u32 = TEAM * SLICES;
const SUMS: u32 = 4u * BLOCKS * BLOCKS; // vec4s along n that a lane sums up

var<workgroup> tile: array<vec4<f32>, BK * COLUMNS>; // (k, m then n)

fn keep_step(k: u32, column: u32, step: vec4<f32>) {
    tile[k * COLUMNS + column] = step;
}

fn multiply(lane: u32, first: vec2<u32>) {
    var sum: array<vec4<f32>, SUMS>;
    for (var k0 = 0u; k0 < params.K; k0 += BK) {
        load_tile(lane, first, k0);
        workgroupBarrier();
        multiply_tile(&sum, lane);
        workgroupBarrier();
    }
    if SLICES > 1u { add_teams(&sum, lane); }
    put_tile(&sum, lane, first);
}

// Adds the tile's products, or the team's share of them. Every index of `sum` is a constant once this is inlined: registers, whether
// or not a driver unrolls loops.
fn multiply_tile(sum: ptr<function, array<vec4<f32>, SUMS>>, lane: u32) {
    let row = lane % TEAM / LANES_N;
    let column = BM4 + lane % LANES_N;
    let begin = lane / TEAM * (BK / SLICES) * COLUMNS;
    for (var step = 0u; step < BK / SLICES; step += 1u) {
        let at = begin + step * COLUMNS;
        let x0 = tile[at + row];
        let w0 = tile[at + column];
        add_block(sum, 0u, x0, w0);
        if BLOCKS > 1u {
            let x1 = tile[at + row + LANES_M];
            let w1 = tile[at + column + LANES_N];
            add_block(sum, 4u, x0, w1);
            add_block(sum, 8u, x1, w0);
            add_block(sum, 12u, x1, w1);
        }
    }
}

fn add_block(sum: ptr<function, array<vec4<f32>, SUMS>>, at: u32, x: vec4<f32>, w: vec4<f32>) {
    (*sum)[at] = fma(vec4(x.x), w, (*sum)[at]);
    (*sum)[at + 1u] = fma(vec4(x.y), w, (*sum)[at + 1u]);
    (*sum)[at + 2u] = fma(vec4(x.z), w, (*sum)[at + 2u]);
    (*sum)[at + 3u] = fma(vec4(x.w), w, (*sum)[at + 3u]);
}

// The first team adds what the others have summed up, in their order. For one block a lane: the tile has room for their sums.
fn add_teams(sum: ptr<function, array<vec4<f32>, SUMS>>, lane: u32) {
    let team = lane / TEAM;
    if team > 0u {
        let at = (team - 1u) * 4u * TEAM + lane % TEAM;
        tile[at] = (*sum)[0];
        tile[at + TEAM] = (*sum)[1];
        tile[at + 2u * TEAM] = (*sum)[2];
        tile[at + 3u * TEAM] = (*sum)[3];
    }
    workgroupBarrier();
    if team == 0u {
        for (var other = 0u; other + 1u < SLICES; other += 1u) {
            let at = other * 4u * TEAM + lane;
            (*sum)[0] += tile[at];
            (*sum)[1] += tile[at + TEAM];
            (*sum)[2] += tile[at + 2u * TEAM];
            (*sum)[3] += tile[at + 3u * TEAM];
        }
    }
}

fn put_tile(sum: ptr<function, array<vec4<f32>, SUMS>>, lane: u32, first: vec2<u32>) {
    if lane >= TEAM { return; }
    let m = first.x + lane / LANES_N * 4u;
    let n = first.y + lane % LANES_N * 4u;
    put_block(sum, 0u, m, n);
    if BLOCKS > 1u {
        put_block(sum, 4u, m, n + BN / 2u);
        put_block(sum, 8u, m + BM / 2u, n);
        put_block(sum, 12u, m + BM / 2u, n + BN / 2u);
    }
}

fn put_block(sum: ptr<function, array<vec4<f32>, SUMS>>, at: u32, m: u32, n: u32) {
    put_row(m, n, (*sum)[at]);
    put_row(m + 1u, n, (*sum)[at + 1u]);
    put_row(m + 2u, n, (*sum)[at + 2u]);
    put_row(m + 3u, n, (*sum)[at + 3u]);
}
