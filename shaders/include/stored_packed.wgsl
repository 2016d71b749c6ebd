
// Four elements as memory holds them: f16, two to a word, where the device has no such type.
alias Stored4 = vec2<u32>;

fn widen(v: Stored4) -> vec4<f32> {
    return vec4(unpack2x16float(v.x), unpack2x16float(v.y));
}

// Infinity and NaN are put in by their bits: WGSL lets drivers pack them as they like (SwiftShader makes NaN of infinity).
fn narrow(v: vec4<f32>) -> Stored4 {
    let rounded = round_to_half(v);
    let bits = bitcast<vec4<u32>>(rounded);
    let magnitude = bits & vec4(0x7fffffffu);
    let finite = select(vec4(0.0), rounded, magnitude < vec4(0x7f800000u));
    let quiet = select(vec4(0u), vec4(0x200u), magnitude > vec4(0x7f800000u));
    let infinite = ((bits >> vec4(16u)) & vec4(0x8000u)) | vec4(0x7c00u) | quiet;
    let special = select(infinite, vec4(0u), magnitude < vec4(0x7f800000u));
    let words = vec2(pack2x16float(finite.xy), pack2x16float(finite.zw));
    return words | special.xz | (special.yw << vec2(16u));
}
