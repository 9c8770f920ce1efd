//! Who the other ranks are, and whether they are still there.

/// One rank as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From 0.
    pub rank: usize,
    /// The machine's name.
    pub host: String,
    /// Process number there.
    pub process: u32,
    /// Whether it is on the machine that asks.
    pub here: bool,
}

impl Peer {
    /// Whether it has ended. Of other machines nothing is known from here, and nothing where the system has no list of
    /// processes in `/proc`.
    pub fn is_gone(&self) -> bool {
        if !self.here || !std::path::Path::new("/proc/self/stat").exists() {
            return false;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.process)) else { return true };
        // The state follows the name, which is in brackets and may hold anything: Z and X have ended.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('Z' | 'X'))
    }

    /// "rank 1 (process 4711 on node-2)".
    pub fn name(&self) -> String {
        format!("rank {} (process {} on {})", self.rank, self.process, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let peer = Peer { rank: 1, host: "node-2".into(), process: child.id(), here: true };
        assert!(!peer.is_gone());
        child.kill().unwrap();
        // Until it is waited for it is a zombie.
        let ended = || {
            peer.is_gone() || {
                std::thread::yield_now();
                false
            }
        };
        while !ended() {}
        child.wait().unwrap();
        assert!(peer.is_gone());
        assert!(!Peer { here: false, ..peer }.is_gone());
    }
}
