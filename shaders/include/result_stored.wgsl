
// Four elements of the result as memory holds them: like the operands.
alias Result4 = Stored4;

fn widen_result(v: Result4) -> vec4<f32> {
    return widen(v);
}

fn narrow_result(v: vec4<f32>) -> Result4 {
    return narrow(v);
}
