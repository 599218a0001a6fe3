//! The relay as a command: `causeway-wan --listen 127.0.0.1:9443 --target 127.0.0.1:7443 --delay 40ms --loss 1%`.

use anyhow::Context;
use causeway_wan::{Direction, Impairment, Relay, parse_bytes, parse_loss, parse_rate};
use clap::Parser;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Relays UDP between two addresses as a WAN would. Both directions are alike unless a --back option says otherwise.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen, IP:PORT; port 0 chooses one
    #[arg(long)]
    listen: SocketAddr,
    /// Where to forward to, IP:PORT
    #[arg(long)]
    target: SocketAddr,
    /// One-way delay
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Up to this much more delay, evenly distributed; datagrams may overtake each other by it
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Share of datagrams lost at random: 1% or 0.01
    #[arg(long, default_value = "0%", value_parser = parse_loss)]
    loss: f64,
    /// Rate of the bottleneck: 1gbit, 250mbit; without it there is none
    #[arg(long, value_parser = parse_rate)]
    rate: Option<NonZeroU64>,
    /// What waits before the bottleneck at most
    #[arg(long, default_value = "4MiB", value_parser = parse_bytes)]
    queue: u64,
    /// One-way delay of the answers
    #[arg(long, value_parser = humantime::parse_duration)]
    back_delay: Option<Duration>,
    /// Loss of the answers
    #[arg(long, value_parser = parse_loss)]
    back_loss: Option<f64>,
    /// Rate of the answers
    #[arg(long, value_parser = parse_rate)]
    back_rate: Option<NonZeroU64>,
    /// Seed of the random losses and the jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Args { delay, jitter, loss, rate, queue, .. } = args;
    let forward = Impairment { delay, jitter, loss, rate, queue, cut: false };
    let back = Impairment {
        delay: args.back_delay.unwrap_or(delay),
        loss: args.back_loss.unwrap_or(loss),
        rate: args.back_rate.or(rate),
        ..forward
    };
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let relay = Relay::start(args.listen, args.target, forward, back, args.seed)?;
    println!("listening on {}, forwarding to {}", relay.local_addr(), args.target);
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for SIGINT")?,
        _ = terminate.recv() => {}
    }
    println!("forward {:?}", relay.counters(Direction::Forward));
    println!("back    {:?}", relay.counters(Direction::Back));
    Ok(())
}
