//! Colours that people with any colour vision can tell apart.

use std::fmt;

/// A colour in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Color(u8, u8, u8);

/// For what others are seen against.
pub(crate) const GREY: Color = Color(0x9a, 0x9a, 0x9a);
/// For a chart's only series.
pub(crate) const ORDINARY: Color = CATEGORIES[0];

impl Color {
    pub(crate) const BLACK: Self = Self(0, 0, 0);
}

/// Okabe and Ito, "Color universal design" (2008), without their yellow, which is too light for a line on white.
const CATEGORIES: [Color; 7] = [
    Color(0x00, 0x72, 0xb2),
    Color(0xd5, 0x5e, 0x00),
    Color(0x00, 0x9e, 0x73),
    Color(0xe6, 0x9f, 0x00),
    Color(0xcc, 0x79, 0xa7),
    Color(0x56, 0xb4, 0xe9),
    Color::BLACK,
];

/// Viridis at equal distances (Smith and van der Walt, 2015), without its lightest fifth.
const VIRIDIS: [Color; 5] = [
    Color(0x44, 0x01, 0x54),
    Color(0x40, 0x43, 0x87),
    Color(0x29, 0x78, 0x8e),
    Color(0x22, 0xa7, 0x85),
    Color(0x79, 0xd1, 0x51),
];

/// The colour of the kind `index`, where kinds have no order; the eighth has that of the first.
pub(crate) fn category(index: usize) -> Color {
    CATEGORIES[index % CATEGORIES.len()]
}

/// The colour of `index` among `count` things that have an order, such as layers: from dark to light.
pub(crate) fn ordinal(index: usize, count: usize) -> Color {
    let last = VIRIDIS.len() - 1;
    let place = index as f64 / count.saturating_sub(1).max(1) as f64 * last as f64;
    let below = (place as usize).min(last - 1);
    let share = (place - below as f64).min(1.0);
    mixed(VIRIDIS[below], VIRIDIS[below + 1], share)
}

/// A light shade, for what stands behind a line of the colour itself.
pub(crate) fn faint(color: Color) -> Color {
    mixed(color, Color(0xff, 0xff, 0xff), 0.7)
}

/// `a` with this share of `b`.
fn mixed(a: Color, b: Color, share: f64) -> Color {
    let mix = |a: u8, b: u8| (f64::from(a) + share * (f64::from(b) - f64::from(a))).round() as u8;
    Color(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}
