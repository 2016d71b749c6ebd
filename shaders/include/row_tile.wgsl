
// Rows that a subgroup owns. With 8 instead of 16 the attention kernels took 1.0 to 1.7 times as long (lavapipe 22.3, D = 32,
// T = 128 and 256, processor time).
const ROWS: u32 = 16u;

// sum[r] + m x[r] for every row r, where x is what lane i of the subgroup holds. Written out: a loop over rows would count
// against the 65,535 iterations that lavapipe 22.3 grants an invocation.
fn add_product(sum: ptr<function, array<vec4<f32>, ROWS>>, m: mat4x4<f32>, x: ptr<function, array<vec4<f32>, ROWS>>, i: u32) {
    (*sum)[0] = add_column((*sum)[0], m, subgroupShuffle((*x)[0], i));
    (*sum)[1] = add_column((*sum)[1], m, subgroupShuffle((*x)[1], i));
    (*sum)[2] = add_column((*sum)[2], m, subgroupShuffle((*x)[2], i));
    (*sum)[3] = add_column((*sum)[3], m, subgroupShuffle((*x)[3], i));
    (*sum)[4] = add_column((*sum)[4], m, subgroupShuffle((*x)[4], i));
    (*sum)[5] = add_column((*sum)[5], m, subgroupShuffle((*x)[5], i));
    (*sum)[6] = add_column((*sum)[6], m, subgroupShuffle((*x)[6], i));
    (*sum)[7] = add_column((*sum)[7], m, subgroupShuffle((*x)[7], i));
    (*sum)[8] = add_column((*sum)[8], m, subgroupShuffle((*x)[8], i));
    (*sum)[9] = add_column((*sum)[9], m, subgroupShuffle((*x)[9], i));
    (*sum)[10] = add_column((*sum)[10], m, subgroupShuffle((*x)[10], i));
    (*sum)[11] = add_column((*sum)[11], m, subgroupShuffle((*x)[11], i));
    (*sum)[12] = add_column((*sum)[12], m, subgroupShuffle((*x)[12], i));
    (*sum)[13] = add_column((*sum)[13], m, subgroupShuffle((*x)[13], i));
    (*sum)[14] = add_column((*sum)[14], m, subgroupShuffle((*x)[14], i));
    (*sum)[15] = add_column((*sum)[15], m, subgroupShuffle((*x)[15], i));
}

// sum + m x, one fused step per column.
fn add_column(sum: vec4<f32>, m: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return fma(m[3], vec4(x.w), fma(m[2], vec4(x.z), fma(m[1], vec4(x.y), fma(m[0], vec4(x.x), sum))));
}
