
// What the products share whose operands go through workgroup memory. A workgroup owns BM by BN outputs; a lane owns one block of 4
// by 4 of them, or four (BLOCKS = 2, twice 4 each way). BK steps of k are in memory at once, as rows of vec4s along m, then along n:
// a lane reads four of its rows or columns in one load, and neighbours read neighbours, so no two meet in a bank.
// With SLICES > 1 there are that many teams of lanes for the same outputs; they share the steps of k and add up at the end.
// The importing kernel has BM, BN, BK, BLOCKS and SLICES, and the functions x_block, w_block and put_row.
const LANES_M: u32 = BM / 4u / BLOCKS;
const LANES_N: u32 = BN / 4u / BLOCKS;
const TEAM: u32 = LANES_M * LANES_N;
const LANES: u32 = TEAM * SLICES;
const BM4: u32 = BM / 4u;
const ROW: u32 = (BM + BN) / 4u; // vec4s of one k
const SUMS: u32 = 4u * BLOCKS * BLOCKS; // vec4s along n that a lane sums up
const NEXT: vec4<u32> = vec4(0u, 1u, 2u, 3u);

var<workgroup> tile: array<vec4<f32>, BK * ROW>; // (k, m then n)

// First row and column of a workgroup's outputs. Bands of eight tiles in m, and in a band column by column: workgroups that run at
// the same time share what they read of x and w, which stays in the cache.
fn first_output(group: u32, row_tiles: u32, column_tiles: u32) -> vec2<u32> {
    let band = group / (8u * column_tiles);
    let inside = group % (8u * column_tiles);
    let height = min(8u, row_tiles - 8u * band);
    return vec2((8u * band + inside % height) * BM, inside / height * BN);
}

// BK steps of both operands from k0 on, in blocks of 4 by 4. Eight neighbouring lanes take eight vec4s of the same steps, which they
// store without meeting in a bank; the next eight take the next four steps, which lie beside those in memory.
fn load_tile(lane: u32, first: vec2<u32>, k0: u32) {
    for (var i = lane; i < ROW * BK / 4u; i += LANES) {
        let column = i / (2u * BK) * 8u + i % 8u;
        let k = i / 8u % (BK / 4u) * 4u;
        var block: mat4x4<f32>;
        if column < BM4 {
            block = x_block(first.x + 4u * column, k0 + k);
        } else {
            block = w_block(first.y + 4u * (column - BM4), k0 + k);
        }
        let inside = k0 + k + NEXT < vec4(params.K); // steps beyond the last are zeros
        let at = k * ROW + column;
        tile[at] = select(vec4(0.0), block[0], inside.x);
        tile[at + ROW] = select(vec4(0.0), block[1], inside.y);
        tile[at + 2u * ROW] = select(vec4(0.0), block[2], inside.z);
        tile[at + 3u * ROW] = select(vec4(0.0), block[3], inside.w);
    }
}

// Adds the tile's products, or the team's share of them. Every index of `sum` is a constant once this is inlined: registers, whether
// or not a driver unrolls loops.
fn multiply_tile(sum: ptr<function, array<vec4<f32>, SUMS>>, lane: u32) {
    let row = lane % TEAM / LANES_N;
    let column = BM4 + lane % LANES_N;
    let begin = lane / TEAM * (BK / SLICES) * ROW;
    for (var step = 0u; step < BK / SLICES; step += 1u) {
        let at = begin + step * ROW;
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
