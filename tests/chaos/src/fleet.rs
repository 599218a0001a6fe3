//! A cluster whose gateways are there to be broken.

use crate::admin::{Admin, Answer};
use crate::disk::SmallDisk;
use crate::member::{Member, Start};
use crate::relays::{Lossy, Relays};
use causeway_test_mesh::{Mesh, SOON, loopback, wait_for, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How many gateways a cluster has unless told otherwise, and how many of more of them vote.
const VOTERS: usize = 3;

/// A cluster to be started.
#[derive(Debug)]
pub struct FleetBuilder {
    mesh: Mesh,
    name: String,
    gateways: usize,
    relayed: bool,
    small_disk: Option<(usize, u64)>,
}

impl FleetBuilder {
    /// How many gateways it has; 3 unless given.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// Its gateways are reached through relays, which can be cut: one for linked clusters and one for the cluster's own.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self
    }

    /// The gateway of that index has a disk of its own with so many bytes.
    #[must_use]
    pub fn small_disk(mut self, index: usize, bytes: u64) -> Self {
        self.small_disk = Some((index, bytes));
        self
    }

    /// Starts the gateways one after the other, waits until each is ready, and until as many vote as there should be.
    #[track_caller]
    pub fn start(self) -> Fleet {
        let mut fleet = Fleet {
            mesh: self.mesh,
            name: self.name,
            relayed: self.relayed,
            members: Vec::new(),
            started: 0,
        };
        for index in 0..self.gateways {
            let disk = self.small_disk.filter(|(of, _)| *of == index);
            fleet.add(disk.map(|(_, bytes)| bytes));
        }
        fleet.wait_voters();
        fleet
    }
}

/// A running cluster. Its gateways are killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    mesh: Mesh,
    name: String,
    relayed: bool,
    started: usize,
    /// Its gateways.
    pub members: Vec<Member>,
}

impl Fleet {
    /// A cluster called `name`, to be started.
    pub fn builder(mesh: &Mesh, name: &str) -> FleetBuilder {
        FleetBuilder {
            mesh: mesh.clone(),
            name: name.to_owned(),
            gateways: VOTERS,
            relayed: false,
            small_disk: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mesh's folder.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The admin APIs of all gateways, running or not.
    pub fn admins(&self) -> Vec<Admin> {
        self.members.iter().map(|member| member.admin().clone()).collect()
    }

    /// Adds a gateway, on a disk of its own with `disk` bytes if given, and waits until it is ready.
    #[track_caller]
    pub fn add(&mut self, disk: Option<u64>) -> &mut Member {
        let number = self.started + 1;
        let (name, ip) = (format!("{}-{number}", self.name), loopback());
        let data_dir = self.mesh.path(&format!("{name}-data"));
        let disk = disk
            .map(|bytes| SmallDisk::mount(&data_dir, bytes).expect("whoever asks for a disk may mount one"));
        let mut args = self.mesh.gateway_args(&self.name, ip);
        let place = args.iter().position(|arg| arg == "--data-dir").expect("a gateway has a data directory");
        args[place + 1] = data_dir.display().to_string();
        let relays = self.relayed.then(|| Relays::start(ip, number as u64));
        if let Some(relays) = &relays {
            args.extend(relays.args());
        }
        let mut context = self.name.clone();
        if self.started > 0 {
            context.clone_from(&name);
            args.extend(["--join".to_owned(), self.join_token(), "--context".to_owned(), name.clone()]);
        }
        self.started = number;
        let mut member = Member::start(&self.mesh, Start { name, ip, context, data_dir, disk, relays, args });
        member.wait_ready();
        self.members.push(member);
        self.members.last_mut().expect("it was just added")
    }

    #[track_caller]
    fn join_token(&mut self) -> String {
        let made =
            self.ask("a token for a gateway", |admin| admin.post("/v1/tokens", &json!({"role": "gateway"})));
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Asks each running gateway in turn until one does it.
    #[track_caller]
    pub fn ask(&mut self, what: &str, request: impl Fn(&Admin) -> Answer) -> Value {
        let mut said = Answer::Unknown("no gateway runs".into());
        let name = self.name.clone();
        let found = wait_for(SOON * 2, &format!("{name}: {what}"), || {
            for member in &mut self.members {
                if member.runs() {
                    said = request(member.admin());
                    if let Answer::Done(value) = &said {
                        return Some(value.clone());
                    }
                }
            }
            None
        });
        found.0
    }

    /// Waits until every gateway sees three that vote.
    #[track_caller]
    pub fn wait_voters(&mut self) {
        // two could lose neither: one of two votes
        let goal = if self.members.len() < VOTERS { 1 } else { VOTERS };
        for member in &self.members {
            let (name, mut seen) = (member.name().to_owned(), Value::Null);
            let what = format!("{name} sees {goal} voters");
            wait_until(SOON * 2, &what, || {
                let Answer::Done(gateways) = member.admin().get("/v1/gateways") else { return false };
                let voters = gateways.as_array().into_iter().flatten();
                let voters = voters
                    .filter(|gateway| gateway["registry"] == "leader" || gateway["registry"] == "voter");
                let enough = voters.count() >= goal;
                seen = gateways;
                enough
            });
        }
    }

    /// The index of the gateway that leads the registry, if a running one says so.
    pub fn leader(&mut self) -> Option<usize> {
        let nodes: Vec<String> = self.members.iter().map(|member| member.node().to_owned()).collect();
        let leaders = self.members.iter_mut().filter_map(|member| {
            let status = if member.runs() { member.admin().get("/v1/status") } else { return None };
            let Answer::Done(status) = status else { return None };
            let registry = &status["registry"];
            (registry["role"] == "leader").then(|| (registry["term"].as_u64(), registry["leader"].clone()))
        });
        // one that was away may not know yet that it leads no more
        let (_, leader) = leaders.max_by_key(|(term, _)| *term)?;
        nodes.iter().position(|node| leader == *node.as_str())
    }

    /// Waits for a leader, and returns its index.
    #[track_caller]
    pub fn wait_leader(&mut self) -> usize {
        let what = format!("{} has a leader", self.name);
        wait_for(SOON, &what, || self.leader()).0
    }

    /// The node ids of the gateways that its registry knows.
    #[track_caller]
    pub fn nodes(&mut self) -> BTreeSet<String> {
        let gateways = self.ask("the gateways", |admin| admin.get("/v1/gateways"));
        let nodes = gateways.as_array().into_iter().flatten().filter_map(|gateway| gateway["node"].as_str());
        nodes.map(str::to_owned).collect()
    }

    /// Has the cluster forget the gateway of that index, which has ended for good, and drops it here.
    #[track_caller]
    pub fn remove(&mut self, index: usize) {
        let mut gone = self.members.remove(index);
        gone.process.kill();
        let node = gone.node().to_owned();
        let path = format!("/v1/gateways/{node}");
        self.ask("a gateway is removed", |admin| match admin.delete(&path) {
            // by an attempt whose outcome was unknown
            gone if gone.reason() == Some("gateway-unknown") => Answer::Done(Value::Null),
            other => other,
        });
        let what = format!("{} forgets gateway {node}", self.name);
        wait_until(SOON, &what, || !self.nodes().contains(&node));
    }

    /// Loses packets between this cluster and those it is linked with.
    pub fn lose(&self, lossy: Lossy) {
        for member in &self.members {
            member.lose_far(lossy);
        }
    }
}
