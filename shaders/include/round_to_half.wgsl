
// v with f16's 11 significant bits: to nearest, ties to even, infinity from 65520 on. WGSL leaves the rounding of a conversion
// to the driver and its overflow open; what this gives, every driver converts as it is. Below 2^-14 the driver rounds.
fn round_to_half(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(v);
    let magnitude = bits & vec4(0x7fffffffu);
    let nearest = (bits + vec4(0xfffu) + ((bits >> vec4(13u)) & vec4(1u))) & vec4(0xffffe000u);
    let infinity = (bits & vec4(0x80000000u)) | vec4(0x7f800000u);
    let rounded = select(nearest, infinity, magnitude >= vec4(0x477ff000u));
    return bitcast<vec4<f32>>(select(rounded, bits, magnitude > vec4(0x7f800000u))); // a NaN stays one
}
