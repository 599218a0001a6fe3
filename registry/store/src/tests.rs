//! The registry as a whole, over an in-process network whose links can be cut.

mod conformance;
mod crash;
mod damage;
mod full_disk;
mod group;
mod hostile;
mod mesh;
mod single;
