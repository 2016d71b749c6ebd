
// What matmul_cooperative does with squares. coopLoad takes columns that lie together, coopLoadT rows: in memory the elements of one
// k do, so those are the columns of x's squares (m, k) and the rows of w's (k, n).
fn x_square(at: u32) -> XSquare {
    return coopLoad<XSquare>(&tile[at], ROW);
}

fn w_square(at: u32) -> WSquare {
    return coopLoadT<WSquare>(&tile[at], ROW);
}

fn sum_square(at: u32) -> SumSquare {
    return coopLoadT<SumSquare>(&sums[at], SUM_ROW);
}

fn product(x: XSquare, w: WSquare, sum: SumSquare) -> SumSquare {
    return coopMultiplyAdd(x, w, sum);
}

fn keep_sums(sum: SumSquare, at: u32) {
    coopStoreT(sum, &sums[at], SUM_ROW);
}
