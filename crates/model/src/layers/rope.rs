//! Rotary position embedding (Su et al. 2021) in Hugging Face's rotate-half layout.

use evenkeel_schedule::{Operand::GradientTo, Params, Recorder, ScheduleError, TensorId};
use evenkeel_shaders::{rope_bwd, rope_fwd};

/// Tables made on the host, each (T, D/2): software drivers' sines are too coarse.
#[derive(Clone, Copy, Debug)]
pub struct RopeTables {
    /// cos(t * theta^(-2i/D)).
    pub cos: TensorId,
    /// sin of the same.
    pub sin: TensorId,
}

/// Records the rotation of x (B*T, heads*D). `shape` is (B, T, heads, D).
///
/// # Errors
/// Shapes that do not fit.
pub fn rope(
    r: &mut Recorder,
    name: &str,
    x: TensorId,
    tables: RopeTables,
    shape: [usize; 4],
) -> Result<TensorId, ScheduleError> {
    let [batch, time, heads, size] = shape;
    let y = r.stored(name, &[("B", batch), ("T", time), ("H", heads), ("D", size)])?;
    let params = move || Params::dims([("B", batch), ("T", time), ("H", heads), ("D", size)]);
    r.run(&rope_fwd::CARD, params(), &[x.into(), tables.cos.into(), tables.sin.into(), y.into()])?;
    r.on_backward(&[y], move |r| {
        let dy = r.gradient_of(y)?;
        r.run(&rope_bwd::CARD, params(), &[dy.into(), tables.cos.into(), tables.sin.into(), GradientTo(x)])
    });
    Ok(y)
}
