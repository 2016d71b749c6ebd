
// Four elements as memory holds them: f32.
alias Stored4 = vec4<f32>;

fn widen(v: Stored4) -> vec4<f32> {
    return v;
}

fn narrow(v: vec4<f32>) -> Stored4 {
    return v;
}
