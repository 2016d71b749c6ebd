
// Slots of a segment's statistics, as in segment_statistics::slots.
const STATISTICS_MEAN: u32 = 0u;
const STATISTICS_STD: u32 = 1u;
const STATISTICS_ABSMAX: u32 = 2u;
const STATISTICS_KURTOSIS: u32 = 3u;

// First element, and the one behind the last, of chunk p of a segment (offset, length): ceil(length / chunks) elements,
// rounded up to fours; in the last chunks fewer or none. An empty chunk begins on a four as well.
fn segment_chunk(segment: vec2<u32>, p: u32, chunks: u32, n: u32) -> vec2<u32> {
    let block = ((segment.y + chunks - 1u) / chunks + 3u) / 4u * 4u;
    let begin = p * block;
    let end = max(begin, min(begin + block, segment.y));
    // The host has checked the table; the clamp keeps a stray segment inside x on every driver.
    return min(segment.x + vec2(begin, end), vec2(n));
}

// deviation / goal > threshold, where a threshold of 1 means 1 + 1e-6: a rescaling leaves the goal but for rounding.
// Never where there is nothing to divide by: a deviation of 0, not finite, or the rounding of the mean; or no goal.
fn segment_exceeds(mean: f32, deviation: f32, goal: f32, threshold: f32) -> bool {
    let exponent = bitcast<u32>(deviation) & 0x7f800000u; // by the bits: drivers compare NaN and denormals as they like
    if exponent == 0u || exponent == 0x7f800000u { return false; }
    let spread = goal > 0.0 && deviation > 3.0e-5 * abs(mean); // segment_rescale::ROUNDING
    return spread && deviation > select(threshold, 1.000001, threshold == 1.0) * goal;
}
