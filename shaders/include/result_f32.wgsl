
// Four elements of the result as memory holds them: f32, whatever the operands are.
alias Result4 = vec4<f32>;

fn widen_result(v: Result4) -> vec4<f32> {
    return v;
}

fn narrow_result(v: vec4<f32>) -> Result4 {
    return v;
}
