//! Which endpoint gets a connection.
//!
//! Owns the choice: how good each endpoint of a service is (latency, load, failures), which tier of localities gets which share
//! of the load, and whom to leave alone for how long. Time and randomness are arguments, and nothing here does I/O. What an
//! endpoint is, whether it is connected, and what happens on the way to it are the caller's.
//!
//! A [`Balancer`] is of one service. [`Balancer::choose`] takes all candidates and does this:
//!
//! 1. candidates of one [`Tier`] belong together: the same zone, the same region, elsewhere by round-trip time, silent links;
//! 2. the nearest tier gets all the load while enough of it is available. What it cannot take spills over to the next at once,
//!    and comes back gradually ([`Spread`]);
//! 3. in the tier, of two candidates drawn by weight the better one is taken. Costs that differ by less than a factor of two,
//!    or by less than noise, are equal: then it is the one that had fewer connections for its weight.
//!
//! An endpoint that fails is ejected ([`Fault`]), and then tried with one connection before it gets its share again. A cluster
//! that is silent is no endpoint's fault: [`Suspects`] keeps those, so that connections go to another cluster meanwhile.

mod balancer;
mod endpoint;
mod latency;
mod outlier;
mod pair;
mod settings;
mod split;
mod spread;
mod suspect;
mod tier;
mod volume;

pub use balancer::{Balancer, Candidate, Choice};
pub use outlier::{Ejection, Fault};
pub use settings::Settings;
pub use split::split;
pub use spread::{Spread, TierLoad};
pub use suspect::Suspects;
pub use tier::{Tier, UNKNOWN_PATH, path_class};
pub use volume::{Class, Volume};
