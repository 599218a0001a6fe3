//! Tests of the whole state machine.

mod bounds;
mod fixture;
mod life;
mod random;
mod refusals;
mod trust;
mod vips;
mod watch;
