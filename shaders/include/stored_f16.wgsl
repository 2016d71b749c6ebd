
// Four elements as memory holds them: f16, where the device has that type.
alias Stored4 = vec4<f16>;

fn widen(v: Stored4) -> vec4<f32> {
    return vec4<f32>(v);
}

fn narrow(v: vec4<f32>) -> Stored4 {
    return vec4<f16>(round_to_half(v));
}
