
// Four elements as memory holds them: f16, two to a word, where the device has no such type.
alias Stored4 = vec2<u32>;

fn widen(v: Stored4) -> vec4<f32> {
    return vec4(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn narrow(v: vec4<f32>) -> Stored4 {
    let rounded = round_to_half(v);
    return vec2(pack2x16float(rounded.xy), pack2x16float(rounded.zw));
}
