
// Squares of 8 by 8: operands in f16, sums in f32.
alias XSquare = coop_mat8x8<f16, A>;
alias WSquare = coop_mat8x8<f16, B>;
alias SumSquare = coop_mat8x8<f32, C>;
