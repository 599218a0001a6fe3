//! What each command does. Every function checks everything before it changes anything, so that a refusal changes
//! nothing.

mod cluster;
mod exports;
mod guarded;
mod keys;
mod links;
mod services;
mod tokens;
mod trust;
mod vips;
