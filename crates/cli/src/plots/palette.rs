//! Colours that people with any colour vision can tell apart.

use plotters::style::colors::colormaps::ViridisRGB;
pub(crate) use plotters::style::{BLACK, RGBColor as Color};

/// For what others are seen against.
pub(crate) const GREY: Color = Color(0x9a, 0x9a, 0x9a);
/// For a chart's only series.
pub(crate) const ORDINARY: Color = CATEGORIES[0];

/// Okabe and Ito, "Color universal design" (2008), without their yellow, which is too light for a line on white.
const CATEGORIES: [Color; 7] = [
    Color(0x00, 0x72, 0xb2),
    Color(0xd5, 0x5e, 0x00),
    Color(0x00, 0x9e, 0x73),
    Color(0xe6, 0x9f, 0x00),
    Color(0xcc, 0x79, 0xa7),
    Color(0x56, 0xb4, 0xe9),
    BLACK,
];

/// The colour of the kind `index`, where kinds have no order; the eighth has that of the first.
pub(crate) fn category(index: usize) -> Color {
    CATEGORIES[index % CATEGORIES.len()]
}

/// The colour of `index` among `count` things that have an order, such as layers: from dark to light.
pub(crate) fn ordinal(index: usize, count: usize) -> Color {
    // The lightest fifth of Viridis is too light for a line on white.
    ViridisRGB::get_color(0.8 * index as f64 / count.saturating_sub(1).max(1) as f64)
}

/// The colours of `index` among `count` things that have an order, on white and on black.
pub(crate) fn ordinals(index: usize, count: usize) -> [Color; 2] {
    let place = index as f64 / count.saturating_sub(1).max(1) as f64;
    // The darkest quarter of Viridis is too dark for a line on black.
    [ordinal(index, count), ViridisRGB::get_color(0.35 + 0.6 * place)]
}

/// A light shade, for what stands behind a line of the colour itself.
pub(crate) fn faint(Color(red, green, blue): Color) -> Color {
    let lighter = |channel: u8| channel + ((0xff - channel) as f64 * 0.7) as u8;
    Color(lighter(red), lighter(green), lighter(blue))
}
