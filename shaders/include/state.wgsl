
// Slots of the optimizer's state, as in gradient_clip::slots.
const STATE_APPLIED: u32 = 0u;
const STATE_CORRECTION1: u32 = 1u;
const STATE_CORRECTION2: u32 = 2u;
const STATE_SCALE: u32 = 3u;
const STATE_NORM: u32 = 4u;
const STATE_FINITE: u32 = 5u;
const STATE_LR: u32 = 6u;
const STATE_LOSS_SCALE: u32 = 7u;
