//! The registry as a whole, over an in-process network whose links can be cut.

mod announce;
mod backup;
mod conformance;
mod crash;
mod damage;
mod examine;
mod failover;
mod full_disk;
mod group;
mod half_made;
mod hostile;
mod mesh;
mod single;
mod voting;
