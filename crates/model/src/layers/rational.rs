//! Group-rational activation (Yang & Wang 2024, "Kolmogorov-Arnold Transformer"): F(x) = P(x) / Q(x) elementwise, the
//! coefficients shared inside a group of neighbouring channels.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{column_sum, rational_bwd_coefficients, rational_bwd_x, rational_fwd};

use super::matrix;
use crate::rational::{DENOMINATOR, NUMERATOR, RationalForm};

/// Coefficients of one activation.
#[derive(Clone, Copy, Debug)]
pub struct RationalTensors {
    /// (A, 6): one numerator for all groups, or one for each.
    pub numerator: TensorId,
    /// (G, 4).
    pub denominator: TensorId,
}

/// Records y = F(x) for x (R, W), where G divides W; `columns` is the design's letter for W.
///
/// # Errors
/// Shapes that do not fit.
pub fn rational(
    r: &mut Recorder,
    x: TensorId,
    coefficients: RationalTensors,
    form: RationalForm,
    columns: &'static str,
) -> Result<TensorId, ScheduleError> {
    let RationalTensors { numerator: a, denominator: b } = coefficients;
    let (rows, width) = matrix(r, x);
    let (numerators, _) = matrix(r, a);
    let (groups, _) = matrix(r, b);
    let params = move || {
        let sum_abs = usize::from(form == RationalForm::SumAbs);
        Params::dims([("R", rows), ("C", width), ("G", groups), ("A", numerators), ("sum_abs", sum_abs)])
    };
    let y = r.stored("y", &[("R", rows), (columns, width)])?;
    r.run(&rational_fwd::CARD, params(), &[x.into(), a.into(), b.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        r.run(&rational_bwd_x::CARD, params(), &[dy.into(), x.into(), a.into(), b.into(), GradientTo(x)])?;
        if !r.wants_gradient(a) && !r.wants_gradient(b) {
            return Ok(());
        }
        let tiles = rational_bwd_coefficients::tiles(rows, width / groups);
        let da = r.scratch("da_partial", &[("S", tiles), ("G", groups), ("P", NUMERATOR)])?;
        let db = r.scratch("db_partial", &[("S", tiles), ("G", groups), ("Q", DENOMINATOR)])?;
        let operands = [dy.into(), x.into(), a.into(), b.into(), da.into(), db.into()];
        r.run(&rational_bwd_coefficients::CARD, params().with_dim("S", tiles), &operands)?;
        let sums = Params::dims([("S", tiles * groups / numerators), ("C", numerators * NUMERATOR)]);
        r.run(&column_sum::CARD, sums, &[da.into(), GradientTo(a)])?;
        let sums = Params::dims([("S", tiles), ("C", groups * DENOMINATOR)]);
        r.run(&column_sum::CARD, sums, &[db.into(), GradientTo(b)])
    });
    Ok(y)
}
