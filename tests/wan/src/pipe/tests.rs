use super::*;
use std::num::NonZeroU64;

const MS: Duration = Duration::from_millis(1);

fn packet(number: u64, size: usize) -> Packet {
    let mut data = vec![0; size.max(8)];
    data[..8].copy_from_slice(&number.to_be_bytes());
    Packet { flow: 0, data: data.into() }
}

fn number(packet: &Packet) -> u64 {
    u64::from_be_bytes(packet.data[..8].try_into().unwrap())
}

fn drain(pipe: &mut Pipe, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| pipe.poll(now)).map(|p| number(&p)).collect()
}

fn rate(bits: u64) -> NonZeroU64 {
    NonZeroU64::new(bits).unwrap()
}

#[test]
fn delay_is_exact_and_keeps_the_order() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_delay(40 * MS), 1);
    for n in 0..100 {
        pipe.offer(start + n * MS / 10, packet(u64::from(n), 100));
    }
    assert_eq!(pipe.next_due(), Some(start + 40 * MS));
    assert!(drain(&mut pipe, start + 40 * MS - Duration::from_nanos(1)).is_empty());
    assert_eq!(drain(&mut pipe, start + 40 * MS), [0]);
    assert_eq!(drain(&mut pipe, start + 60 * MS), (1..100).collect::<Vec<_>>());
    assert_eq!(pipe.in_flight, 0);
}

fn survivors(seed: u64, loss: f64, count: u64) -> Vec<u64> {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_loss(loss), seed);
    (0..count).for_each(|n| pipe.offer(start, packet(n, 100)));
    let through = drain(&mut pipe, start);
    let counters = pipe.counters();
    assert_eq!(counters.forwarded + counters.lost, count);
    through
}

#[test]
fn loss_follows_the_seed_and_meets_its_rate() {
    let once = survivors(7, 0.01, 100_000);
    assert_eq!(once, survivors(7, 0.01, 100_000));
    assert_ne!(once, survivors(8, 0.01, 100_000));
    // 1,000 expected with a standard deviation of 31
    assert!((98_800..=99_200).contains(&once.len()), "{}", once.len());
    assert_eq!(survivors(7, 1.0, 100).len(), 0);
    assert_eq!(survivors(7, 0.0, 100).len(), 100);
}

#[test]
fn the_fate_of_a_datagram_does_not_depend_on_earlier_settings() {
    let start = Instant::now();
    let lossy = Impairment::CLEAR.with_loss(0.5);
    let mut changed = Pipe::new(Impairment::CLEAR, 3);
    (0..500).for_each(|n| changed.offer(start, packet(n, 100)));
    changed.set(lossy);
    (500..1000).for_each(|n| changed.offer(start, packet(n, 100)));
    let tail: Vec<u64> = drain(&mut changed, start).into_iter().filter(|n| *n >= 500).collect();
    let steady: Vec<u64> = survivors(3, 0.5, 1000).into_iter().filter(|n| *n >= 500).collect();
    assert_eq!(tail, steady);
}

#[test]
fn the_bottleneck_spaces_datagrams() {
    let start = Instant::now();
    // 972 + 28 bytes at 8 Mbit/s are a millisecond each
    let mut pipe = Pipe::new(Impairment::CLEAR.with_delay(10 * MS).with_rate(rate(8_000_000), 1 << 20), 1);
    (0..5).for_each(|n| pipe.offer(start, packet(n, 972)));
    for n in 0..5u32 {
        let due = start + 10 * MS + (n + 1) * MS;
        assert_eq!(pipe.next_due(), Some(due));
        assert_eq!(drain(&mut pipe, due), [u64::from(n)]);
    }
    // an idle bottleneck saves nothing up
    let later = start + 1000 * MS;
    pipe.offer(later, packet(9, 972));
    assert_eq!(pipe.next_due(), Some(later + 11 * MS));
}

#[test]
fn the_queue_is_bounded_and_drains() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_rate(rate(8_000_000), 10_000), 1);
    (0..25).for_each(|n| pipe.offer(start, packet(n, 972)));
    assert_eq!(pipe.counters().queue_dropped, 15);
    // after 4 ms four have left it, so four more fit
    (100..110).for_each(|n| pipe.offer(start + 4 * MS, packet(n, 972)));
    assert_eq!(pipe.counters().queue_dropped, 15 + 6);
    let through = drain(&mut pipe, start + 1000 * MS);
    assert_eq!(through, (0..10).chain(100..104).collect::<Vec<_>>());
}

#[test]
fn what_is_on_its_way_is_bounded_without_a_rate() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_delay(1000 * MS), 1);
    let size = 1 << 20;
    (0..300).for_each(|n| pipe.offer(start, packet(n, size)));
    assert_eq!(pipe.counters().queue_dropped, 300 - 256);
    assert_eq!(pipe.in_flight, MAX_IN_FLIGHT);
}

#[test]
fn a_cut_takes_what_arrives_and_what_is_on_its_way() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_delay(10 * MS), 1);
    pipe.offer(start, packet(0, 100));
    pipe.set(Impairment::CUT);
    pipe.offer(start, packet(1, 100));
    assert!(drain(&mut pipe, start + 20 * MS).is_empty());
    assert_eq!(pipe.counters().cut, 2);
    pipe.set(Impairment::CLEAR);
    pipe.offer(start + 20 * MS, packet(2, 100));
    assert_eq!(drain(&mut pipe, start + 20 * MS), [2]);
}

#[test]
fn jitter_stays_within_its_bounds_and_reorders() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_delay(10 * MS).with_jitter(5 * MS), 1);
    (0..1000).for_each(|n| pipe.offer(start, packet(n, 100)));
    assert!(drain(&mut pipe, start + 10 * MS - Duration::from_nanos(1)).is_empty());
    let through = drain(&mut pipe, start + 15 * MS);
    assert_eq!(through.len(), 1000);
    assert!(!through.is_sorted());
}

#[test]
fn the_slowest_rate_does_not_overflow() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Impairment::CLEAR.with_rate(rate(1), u64::MAX), 1);
    (0..10).for_each(|n| pipe.offer(start, packet(n, 65_000)));
    assert!(pipe.next_due().unwrap() > start + 86_400_000 * MS / 1000);
}
