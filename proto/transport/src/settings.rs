//! The settings of QUIC, and the quinn configurations that follow from them.
//!
//! The defaults were measured; each says why it is what it is. Windows are what bounds the congestion controller: BBR's own
//! window grows to hundreds of megabytes where nothing stops it.

use quinn::congestion::BbrConfig;
use quinn::{Connection, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The datagram size that every path must carry (RFC 9000 section 14), in bytes.
pub(crate) const MIN_DATAGRAM: u16 = 1200;
/// The largest datagram size that may be set: what an Ethernet frame of 9,000 bytes holds. Above 12,000 bytes quinn's initial
/// congestion window does not hold the first flight and the handshake hangs.
pub(crate) const MAX_DATAGRAM: u16 = 8900;
/// The largest stream window that may be set. quinn closes the *whole connection* ("too many gaps in stream buffer") when one
/// stream's reassembly has more than 1,024 separate spans. quinn-proto 0.11.19 merges contiguous and duplicate data before it
/// counts (quinn issue 2809), so only real gaps are left: even if every other packet of the smallest size is lost, a window
/// of 2 x 1,024 x 1,200 bytes has no more than 1,024 of them.
pub(crate) const MAX_STREAM_WINDOW: u32 = 2 * 1024 * MIN_DATAGRAM as u32;

/// How much a peer that connected may send on a data connection, in bytes, before it is let in
/// ([`TransportSettings::let_in`]): its hello and no traffic.
pub const HELLO_WINDOW: u32 = 64 << 10;
/// How many streams it may open until then: that of its hello.
const HELLO_STREAMS: u32 = 1;

/// How large a buffer of datagrams may be, in bytes: it holds dozens of the largest at least.
const DATAGRAM_BUFFER: RangeInclusive<u32> = 64 << 10..=64 << 20;

/// When a control connection without any packet is given up, at the latest.
const CONTROL_IDLE: Duration = Duration::from_secs(4);
/// How often a packet is sent on a control connection, at least.
const CONTROL_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What a QUIC connection of the mesh may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportSettings {
    /// The largest datagram that is sent and accepted, in bytes of UDP payload: 1,200 to 8,900. Path MTU discovery finds what a
    /// path really carries.
    pub datagram_size: u16,
    /// How much one stream of a data connection may have in flight, in bytes: 64 KiB to 2,400 KiB, so that its reassembly has
    /// at most 1,024 gaps.
    pub stream_receive_window: u32,
    /// How much of all streams of a data connection may be on the way or unread, in bytes; at least the stream window. Unread data
    /// counts, so this over the stream window is how many streams with a reader that stands still it takes to stall all others
    /// between two workloads: 16 by default.
    pub connection_receive_window: u32,
    /// How much unacknowledged data a data connection keeps, in bytes.
    pub send_window: u32,
    /// When a data connection without any packet is given up. It goes on after an outage that was shorter; the sender's timer
    /// doubles meanwhile, so that it may find out only after as long again. Peers that are gone are known from the control plane:
    /// this is the backstop.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How often a packet is sent when there is nothing to say; below half the idle timeout.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// What the round-trip time is taken for before it is known.
    #[serde(with = "humantime_serde")]
    pub initial_rtt: Duration,
    /// How many streams the peer of a data connection may have open at once. quinn reserves about 70 bytes a side for each
    /// *allowed* stream and connection: raise it on the live connection instead.
    pub max_streams: u32,
    /// How many bytes of a data connection's datagrams wait to be taken by their flows: 64 KiB to 64 MiB. The oldest make room for
    /// new ones.
    pub datagram_receive_buffer: u32,
    /// How many bytes of a data connection's datagrams wait to be sent, 64 KiB to 64 MiB; the oldest make room for new ones. The usual
    /// 1 MiB is 100 ms at 84 Mbit/s: longer than a path takes to change, and no longer than late datagrams are good for.
    pub datagram_send_buffer: u32,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            datagram_size: 1452,
            stream_receive_window: 2 << 20,
            connection_receive_window: 32 << 20,
            send_window: 16 << 20,
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(2),
            initial_rtt: Duration::from_millis(50),
            max_streams: 128,
            datagram_receive_buffer: 1 << 20,
            datagram_send_buffer: 1 << 20,
        }
    }
}

impl TransportSettings {
    /// Every mistake in the settings, each as `KEY: what is wrong and what would be right`.
    pub fn check(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut demand = |holds: bool, mistake: String| {
            if !holds {
                mistakes.push(mistake);
            }
        };
        let size = self.datagram_size;
        demand(
            (MIN_DATAGRAM..=MAX_DATAGRAM).contains(&size),
            format!("datagram_size: {size} is not from {MIN_DATAGRAM} to {MAX_DATAGRAM} bytes"),
        );
        let stream = self.stream_receive_window;
        demand(
            (64 << 10..=MAX_STREAM_WINDOW).contains(&stream),
            format!("stream_receive_window: {stream} is not from 65536 to {MAX_STREAM_WINDOW} bytes"),
        );
        let connection = self.connection_receive_window;
        demand(
            (stream..=1 << 30).contains(&connection),
            format!(
                "connection_receive_window: {connection} is not from the stream window, {stream}, to 1 GiB"
            ),
        );
        let send = self.send_window;
        demand(
            (64 << 10..=1 << 30).contains(&send),
            format!("send_window: {send} is not from 64 KiB to 1 GiB"),
        );
        let idle = self.idle_timeout;
        demand(
            (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&idle),
            format!("idle_timeout: {idle:?} is not from 1s to 5m"),
        );
        let alive = self.keep_alive;
        demand(
            alive >= Duration::from_millis(100) && alive <= idle / 2,
            format!("keep_alive: {alive:?} is not from 100ms to half the idle timeout, {:?}", idle / 2),
        );
        let rtt = self.initial_rtt;
        demand(
            (Duration::from_millis(1)..=Duration::from_secs(2)).contains(&rtt),
            format!("initial_rtt: {rtt:?} is not from 1ms to 2s"),
        );
        let streams = self.max_streams;
        demand(
            (1..=10_000).contains(&streams),
            format!("max_streams: {streams} is not from 1 to 10000; each allowed stream costs memory"),
        );
        for (key, size) in [
            ("datagram_receive_buffer", self.datagram_receive_buffer),
            ("datagram_send_buffer", self.datagram_send_buffer),
        ] {
            let [least, most] = [DATAGRAM_BUFFER.start(), DATAGRAM_BUFFER.end()];
            demand(
                DATAGRAM_BUFFER.contains(&size),
                format!("{key}: {size} is not from {least} to {most} bytes"),
            );
        }
        mistakes
    }

    /// The settings with every value moved into its bounds, so that a caller who did not [`check`](Self::check) them cannot
    /// hang a handshake.
    pub(crate) fn bounded(&self) -> Self {
        let idle = self.idle_timeout.clamp(Duration::from_secs(1), Duration::from_secs(300));
        let stream = self.stream_receive_window.clamp(64 << 10, MAX_STREAM_WINDOW);
        let datagrams = |size: u32| size.clamp(*DATAGRAM_BUFFER.start(), *DATAGRAM_BUFFER.end());
        Self {
            datagram_size: self.datagram_size.clamp(MIN_DATAGRAM, MAX_DATAGRAM),
            stream_receive_window: stream,
            connection_receive_window: self.connection_receive_window.clamp(stream, 1 << 30),
            send_window: self.send_window.clamp(64 << 10, 1 << 30),
            idle_timeout: idle,
            keep_alive: self.keep_alive.clamp(Duration::from_millis(100), idle / 2),
            initial_rtt: self.initial_rtt.clamp(Duration::from_millis(1), Duration::from_secs(2)),
            max_streams: self.max_streams.clamp(1, 10_000),
            datagram_receive_buffer: datagrams(self.datagram_receive_buffer),
            datagram_send_buffer: datagrams(self.datagram_send_buffer),
        }
    }

    /// For connections between sidecars: BBR, whose window flow control bounds, because on a WAN with any loss a loss-based
    /// controller collapses and every stream queues behind it.
    ///
    /// This is the side that accepted: the other opens the streams, no more than one with [`HELLO_WINDOW`] bytes until it is
    /// [let in](Self::let_in).
    pub fn data_server(&self) -> TransportConfig {
        let mut config = self.bounded().data_windows();
        config.receive_window(HELLO_WINDOW.into()).max_concurrent_bidi_streams(HELLO_STREAMS.into());
        config
    }

    /// Gives the peer of an accepted data connection the windows and streams of these settings: it has said its hello.
    pub fn let_in(&self, connection: &Connection) {
        let settings = self.bounded();
        connection.set_receive_window(settings.connection_receive_window.into());
        connection.set_max_concurrent_bi_streams(settings.max_streams.into());
    }

    /// As [`data_server`](Self::data_server), for the side that connected: the other may open no streams.
    pub fn data_client(&self) -> TransportConfig {
        let mut config = self.bounded().data_windows();
        config.max_concurrent_bidi_streams(0u32.into());
        config
    }

    /// With datagrams, for flows of UDP. Whoever has a data connection reads them from the start, or a peer could fill their buffer.
    fn data_windows(&self) -> TransportConfig {
        let mut config = self.basics();
        config
            .stream_receive_window(self.stream_receive_window.into())
            .receive_window(self.connection_receive_window.into())
            .send_window(self.send_window.into())
            .max_concurrent_uni_streams(0u32.into())
            .datagram_receive_buffer_size(Some(self.datagram_receive_buffer as usize))
            .datagram_send_buffer_size(self.datagram_send_buffer as usize);
        config
    }

    /// For ctl, link and raft connections: few streams and small windows, and no datagrams. A peer that is gone is noticed within 4 s:
    /// to connect again costs little, and what is not heard meanwhile costs much.
    pub fn control(&self) -> TransportConfig {
        let mut settings = self.bounded();
        settings.idle_timeout = settings.idle_timeout.min(CONTROL_IDLE);
        settings.keep_alive = settings.keep_alive.min(CONTROL_KEEP_ALIVE);
        let mut config = settings.basics();
        config
            .stream_receive_window((1u32 << 20).into())
            .receive_window((2u32 << 20).into())
            .send_window(2 << 20)
            .max_concurrent_bidi_streams(64u32.into())
            .max_concurrent_uni_streams(8u32.into())
            .datagram_receive_buffer_size(None);
        config
    }

    fn basics(&self) -> TransportConfig {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.datagram_size);
        // at most 300 s, which fits: the fall-back is quinn's own default
        let idle = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(30_000);
        let mut config = TransportConfig::default();
        config
            .congestion_controller_factory(Arc::new(BbrConfig::default()))
            .initial_mtu(MIN_DATAGRAM)
            .mtu_discovery_config(Some(mtu))
            .initial_rtt(self.initial_rtt)
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
            .keep_alive_interval(Some(self.keep_alive));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_are_what_an_empty_section_gives() {
        let settings = TransportSettings::default();
        assert_eq!(settings.check(), Vec::<String>::new());
        assert_eq!(settings.bounded(), settings);
        assert_eq!(serde_json::from_str::<TransportSettings>("{}").unwrap(), settings);
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains("\"idle_timeout\":\"30s\""), "{text}");
        assert_eq!(serde_json::from_str::<TransportSettings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<TransportSettings>("{\"datagram_siz\":1452}").is_err());
    }

    #[test]
    fn control_connections_are_given_up_early_and_never_later_than_data() {
        let shown = |settings: &TransportSettings| format!("{:?}", settings.control());
        let usual = shown(&TransportSettings::default());
        assert!(usual.contains("max_idle_timeout: Some(4000)"), "{usual}");
        assert!(usual.contains("keep_alive_interval: Some(1s)"), "{usual}");
        let idle_timeout = Duration::from_secs(1);
        let hasty = TransportSettings { idle_timeout, keep_alive: idle_timeout / 4, ..Default::default() };
        let hasty = shown(&hasty);
        assert!(hasty.contains("max_idle_timeout: Some(1000)"), "{hasty}");
        assert!(hasty.contains("keep_alive_interval: Some(250ms)"), "{hasty}");
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_mended_by_bounding() {
        let wrong = TransportSettings {
            datagram_size: 12_000,
            stream_receive_window: 8 << 20,
            connection_receive_window: 1 << 20,
            send_window: 0,
            idle_timeout: Duration::ZERO,
            keep_alive: Duration::from_secs(60),
            initial_rtt: Duration::from_secs(60),
            max_streams: 0,
            datagram_receive_buffer: 1,
            datagram_send_buffer: u32::MAX,
        };
        let mistakes = wrong.check();
        assert_eq!(mistakes.len(), 10, "{mistakes:?}");
        assert!(mistakes[0].starts_with("datagram_size: 12000"), "{mistakes:?}");
        assert_eq!(wrong.bounded().check(), Vec::<String>::new());
    }
}
