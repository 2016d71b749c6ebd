
// Squares of 16 by 16: operands in f16, sums in f32.
alias XSquare = coop_mat16x16<f16, A>;
alias WSquare = coop_mat16x16<f16, B>;
alias SumSquare = coop_mat16x16<f32, C>;
