
// Products from tiles in workgroup memory (matmul_load) by cooperative matrices: squares of SIDE by SIDE that a subgroup holds
// together. The subgroups share out the workgroup's outputs in quads of 2 by 2; the squares themselves, and what is done
// with them, are in cooperative.wgsl. It takes LANES to be whole subgroups, of lanes that follow each other.
// Sums lie in workgroup memory between steps: a matrix carried across a loop came out wrong on NVIDIA's Blackwell (meganeura's
// notes). A quad is read and written once between two barriers, for a lane may hold other elements when it reads than it wrote.

// Set by the variant: extent of a square, lanes of a workgroup. A multiple of the largest subgroup, 64: Vulkan asks for whole ones.
const SIDE: u32 = 16u;
const LANES: u32 = 64u;

// Every row begins at a multiple of 16 bytes, which Vulkan asks of a matrix's rows. What is added puts neighbours in other banks.
const ROW: u32 = BM + BN + 8u; // f16s of one k
const SUM_ROW: u32 = BN + 4u;
const QUAD: u32 = 2u * SIDE;
const QUADS_N: u32 = BN / QUAD;
const QUADS: u32 = BM / QUAD * QUADS_N;

var<workgroup> tile: array<f16, BK * ROW>; // (k, m then n)
var<workgroup> sums: array<f32, BM * SUM_ROW>; // (m, n)

// Exact: that is how memory holds them.
fn keep_step(k: u32, column: u32, step: vec4<f32>) {
    let at = k * ROW + 4u * column;
    let halves = vec4<f16>(step);
    tile[at] = halves.x;
    tile[at + 1u] = halves.y;
    tile[at + 2u] = halves.z;
    tile[at + 3u] = halves.w;
}

fn multiply(lane: u32, first: vec2<u32>) {
    for (var i = lane; i < BM * SUM_ROW; i += LANES) { sums[i] = 0.0; }
    for (var k0 = 0u; k0 < params.K; k0 += BK) {
        load_tile(lane, first, k0);
        workgroupBarrier();
        multiply_tile(lane);
        workgroupBarrier();
    }
    for (var i = lane; i < BM * BN / 4u; i += LANES) {
        let m = i / (BN / 4u);
        let n = i % (BN / 4u) * 4u;
        let at = m * SUM_ROW + n;
        put_row(first.x + m, first.y + n, vec4(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]));
    }
}

// However many lanes the driver gives a subgroup. The loop's bounds are the same in all lanes of one.
fn multiply_tile(lane: u32) {
    let size = subgroupAdd(1u);
    for (var quad = subgroupMin(lane) / size; quad < QUADS; quad += LANES / size) {
        add_quad(quad / QUADS_N * QUAD, quad % QUADS_N * QUAD);
    }
}

// BK = 2 SIDE: two products to a square.
fn add_quad(m: u32, n: u32) {
    let x = m;
    let w = BM + n;
    let next = SIDE * ROW;
    let sum = m * SUM_ROW + n;
    let x00 = x_square(x);
    let x01 = x_square(x + next);
    let x10 = x_square(x + SIDE);
    let x11 = x_square(x + SIDE + next);
    let w00 = w_square(w);
    let w10 = w_square(w + next);
    let w01 = w_square(w + SIDE);
    let w11 = w_square(w + SIDE + next);
    let below = sum + SIDE * SUM_ROW;
    keep_sums(product(x01, w10, product(x00, w00, sum_square(sum))), sum);
    keep_sums(product(x01, w11, product(x00, w01, sum_square(sum + SIDE))), sum + SIDE);
    keep_sums(product(x11, w10, product(x10, w00, sum_square(below))), below);
    keep_sums(product(x11, w11, product(x10, w01, sum_square(below + SIDE))), below + SIDE);
}
