//! The balancer in virtual time: endpoints with latencies and failures, clients, and what each got. Every seed that fails is printed.

mod ejection;
mod spill;
mod steady;
mod world;
