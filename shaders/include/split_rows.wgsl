
// Rows whose channels a lane owns: all, or, where 8 lanes hold a row's channels, those of its half of the subgroup.
const OWN_ROWS: u32 = ROWS / SPLIT;

// sum[i] + m x_r for every row r that the lane owns: i in the lower half of the subgroup, i + OWN_ROWS in the upper.
fn add_own_rows(
    sum: ptr<function, array<vec4<f32>, OWN_ROWS>>,
    m: mat4x4<f32>,
    share: ptr<function, array<vec4<f32>, SHARES>>,
    upper: bool,
) {
    for (var i = 0u; i < OWN_ROWS; i += 1u) {
        var x = subgroupShuffle((*share)[i / LANES], i % LANES);
        if SPLIT == 2u { x = select(x, subgroupShuffle((*share)[1u], i % LANES), upper); }
        (*sum)[i] += m * x;
    }
}

// What belongs to the lane's i-th row, counted as in `add_own_rows`: an address, or a number.
fn own_row_address(share: ptr<function, array<u32, SHARES>>, i: u32, upper: bool) -> u32 {
    let x = subgroupShuffle((*share)[i / LANES], i % LANES);
    if SPLIT == 1u { return x; }
    return select(x, subgroupShuffle((*share)[1u], i % LANES), upper);
}

fn own_row_number(share: ptr<function, array<f32, SHARES>>, i: u32, upper: bool) -> f32 {
    let x = subgroupShuffle((*share)[i / LANES], i % LANES);
    if SPLIT == 1u { return x; }
    return select(x, subgroupShuffle((*share)[1u], i % LANES), upper);
}
