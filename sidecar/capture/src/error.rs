//! What can go wrong, told so that an operator knows what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Capture could not be installed, removed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A program is not there.
    #[error("there is no {tool:?} in PATH; install the package {package}")]
    ToolMissing {
        /// The program.
        tool: String,
        /// The package that has it, in most distributions.
        package: &'static str,
    },
    /// The caller may not change the network.
    #[error(
        "changing the network of this host or container needs CAP_NET_ADMIN: run it as root, in systemd with ExecStartPre=+, \
         in Kubernetes in an init container with securityContext.capabilities.add: [NET_ADMIN]{}",
        because(.said)
    )]
    NotPermitted {
        /// What a program said; empty if it was not even tried.
        said: String,
    },
    /// The kernel cannot do what a rule asks for.
    #[error(
        "this kernel has no {feature} (module {module}): load it with `modprobe {module}` on the host, or use --capture vip, \
         which needs no rules; nft says: {said}"
    )]
    KernelLacks {
        /// What is missing, in words.
        feature: &'static str,
        /// The module that would have it.
        module: &'static str,
        /// What `nft` said.
        said: String,
    },
    /// A program failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The program with its arguments.
        command: String,
        /// What it wrote to standard error.
        said: String,
    },
    /// A program could not be run.
    #[error("cannot run `{command}`: {source}")]
    NotRun {
        /// The program with its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A setting of the kernel could not be changed.
    #[error(
        "cannot write {value:?} to {path}: {source}; where /proc/sys is read-only set it from outside: \
         docker run --sysctl net.ipv4.ip_unprivileged_port_start=0, in Kubernetes securityContext.sysctls of the pod"
    )]
    Sysctl {
        /// The file in /proc/sys.
        path: &'static str,
        /// What was to be written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// "read", "write", ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn because(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it was refused: {said}") }
}

impl CaptureError {
    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ToolMissing { .. } => "tool_missing",
            Self::NotPermitted { .. } => "not_permitted",
            Self::KernelLacks { .. } => "kernel_lacks",
            Self::Failed { .. } | Self::NotRun { .. } => "command_failed",
            Self::Sysctl { .. } => "sysctl_failed",
            Self::File { .. } => "file_failed",
        }
    }
}

/// A socket for captured traffic could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The process may not have a transparent socket.
    #[error(
        "redirected UDP needs CAP_NET_RAW or CAP_NET_ADMIN, which this process has not ({addr}: {source}): grant one of them \
         (AmbientCapabilities=CAP_NET_RAW, capabilities.add: [NET_RAW]), or use --capture vip, which needs none"
    )]
    NotTransparent {
        /// Where it should have been bound.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Virtual addresses are not addresses of this host.
    #[error(
        "cannot bind the virtual address {addr}: no local route leads to it; run `causeway sidecar init --capture vip` (or \
         redirect) before the sidecar"
    )]
    NoRoute {
        /// The address.
        addr: SocketAddr,
    },
    /// The port is one of those that need a privilege.
    #[error(
        "cannot bind {addr}: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; lower that with \
         `causeway sidecar init --unprivileged-ports`, or grant the capability"
    )]
    PortDenied {
        /// The address.
        addr: SocketAddr,
    },
    /// Somebody listens there, or on every address.
    #[error(
        "cannot bind {addr}: another socket has the port, on this address or on all; let the application listen on an address \
         of its own, or use --capture redirect"
    )]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot {what} the socket of {addr}: {source}")]
    System {
        /// "open", "bind", ...
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl SocketError {
    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTransparent { .. } => "capability_missing",
            Self::NoRoute { .. } => "route_missing",
            Self::PortDenied { .. } => "address_denied",
            Self::InUse { .. } => "address_in_use",
            Self::System { .. } => "socket_error",
        }
    }
}
