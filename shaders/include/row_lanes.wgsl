
// Rows that a subgroup of 16 lanes owns. What belongs to row i is with lane i % LANES, in that lane's share i / LANES: a
// shuffle from a lane that is known when the kernel is compiled costs as much as an addition on drivers with 512-bit
// vectors, one from another lane a loop over all (lavapipe 22.3).
const LANES: u32 = 16u;
const ROWS: u32 = 32u;
const SHARES: u32 = 2u;

// sum[i] + m x_i for every row i, whose x is with its lane. Unrolled by the compiler, as the array is as long as the loop.
fn add_rows(sum: ptr<function, array<vec4<f32>, ROWS>>, m: mat4x4<f32>, share: ptr<function, array<vec4<f32>, SHARES>>) {
    for (var i = 0u; i < ROWS; i += 1u) {
        (*sum)[i] += m * subgroupShuffle((*share)[i / LANES], i % LANES);
    }
}
