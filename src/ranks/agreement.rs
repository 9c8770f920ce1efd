//! What must be the same on all ranks before they begin.
use super::Ranks;

/// A thing by its name, and what it is here.
pub type Item = (&'static str, String);

impl Ranks {
    /// The ranks that have something else than rank 0, in one sentence; `None` where all have the same.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn disagreement<E>(&self, items: &[Item], go_on: impl Fn() -> Result<(), E>) -> Result<Option<String>, E> {
        let lines: Vec<String> = items.iter().map(|(_, value)| value.replace('\n', " ")).collect();
        let found = self.gather(lines.join("\n").into_bytes(), go_on)?;
        let found: Vec<String> = found.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        let first: Vec<&str> = found.first().map(|text| text.split('\n').collect()).unwrap_or_default();
        let mut said = Vec::new();
        for (rank, text) in found.iter().enumerate() {
            let theirs: Vec<&str> = text.split('\n').collect();
            let differs = |number: &usize| theirs.get(*number) != first.get(*number);
            if let Some(number) = (0..items.len()).find(differs) {
                let [here, there] = [&theirs, &first].map(|of| of.get(number).copied().unwrap_or("nothing"));
                let peer = self.peers().get(rank).map_or_else(|| format!("rank {rank}"), super::Peer::name);
                said.push(format!("{peer} has another {} than rank 0 ({here} and not {there})", items[number].0));
            }
        }
        Ok((!said.is_empty()).then(|| said.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::thread;

    use super::super::threads::ranks;

    #[test]
    fn who_differs_is_named_to_all() {
        let ask = |versions: [&'static str; 3]| {
            let threads: Vec<_> = ranks(3)
                .into_iter()
                .zip(versions)
                .map(|(rank, version)| {
                    let items = [("data", "a".to_owned()), ("version of voxfit", version.to_owned())];
                    thread::spawn(move || rank.disagreement(&items, || Ok::<_, Infallible>(())).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ask(["1", "1", "1"]), [None, None, None]);
        let said = ask(["1", "1", "2"]);
        assert_eq!(said[0].as_deref(), Some("rank 2 has another version of voxfit than rank 0 (2 and not 1)"));
        assert_eq!(said[1], said[2]);
    }
}
