
// What the products share that bring both operands into workgroup memory. A workgroup owns BM by BN outputs; BK steps of k are in
// memory at once, as rows along m, then along n.
// The importing kernel has the functions x_block, w_block and put_row, the other include LANES and keep_step.

// Set by the variant: outputs of a workgroup, steps of k in memory.
const BM: u32 = 128u;
const BN: u32 = 128u;
const BK: u32 = 16u;

const BM4: u32 = BM / 4u;
const COLUMNS: u32 = (BM + BN) / 4u; // vec4s of one k
const NEXT: vec4<u32> = vec4(0u, 1u, 2u, 3u);

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
    for (var i = lane; i < COLUMNS * BK / 4u; i += LANES) {
        let column = i / (2u * BK) * 8u + i % 8u;
        let k = i / 8u % (BK / 4u) * 4u;
        var block: mat4x4<f32>;
        if column < BM4 {
            block = x_block(first.x + 4u * column, k0 + k);
        } else {
            block = w_block(first.y + 4u * (column - BM4), k0 + k);
        }
        let inside = k0 + k + NEXT < vec4(params.K); // steps beyond the last are zeros
        keep_step(k, column, select(vec4(0.0), block[0], inside.x));
        keep_step(k + 1u, column, select(vec4(0.0), block[1], inside.y));
        keep_step(k + 2u, column, select(vec4(0.0), block[2], inside.z));
        keep_step(k + 3u, column, select(vec4(0.0), block[3], inside.w));
    }
}
