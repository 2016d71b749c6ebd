
// Stands in for cooperative.wgsl and the types beside it, in plain WGSL. A square is where it begins in memory; a product adds to
// the sums there, whose elements a subgroup's lanes share out row by row. By value they would take drivers seconds to compile.
alias XSquare = u32;
alias WSquare = u32;
alias SumSquare = u32;

fn x_square(at: u32) -> XSquare {
    return at;
}

fn w_square(at: u32) -> WSquare {
    return at;
}

fn sum_square(at: u32) -> SumSquare {
    return at;
}

fn product(x: XSquare, w: WSquare, sum: SumSquare) -> SumSquare {
    let size = subgroupAdd(1u);
    let steps = subgroupMin(SIDE); // no constant to a compiler, which would unroll the loop
    for (var i = subgroupExclusiveAdd(1u); i < SIDE * SIDE; i += size) {
        let at = place(sum, i);
        var total = sums[at];
        for (var k = 0u; k < steps; k += 1u) {
            total = fma(f32(tile[x + k * ROW + i / SIDE]), f32(tile[w + k * ROW + i % SIDE]), total);
        }
        sums[at] = total;
    }
    return sum;
}

// They are there unless they come from elsewhere.
fn keep_sums(sum: SumSquare, at: u32) {
    if sum == at { return; }
    let size = subgroupAdd(1u);
    for (var i = subgroupExclusiveAdd(1u); i < SIDE * SIDE; i += size) { sums[place(at, i)] = sums[place(sum, i)]; }
}

fn place(square: u32, i: u32) -> u32 {
    return square + i / SIDE * SUM_ROW + i % SIDE;
}
