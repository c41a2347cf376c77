//! The tables against a list of subscriptions and [`subject::matches`].

use super::*;
use crate::ids::CoreId;

const PLAIN: Option<&[u8]> = None;

fn queue(name: &str) -> Option<&[u8]> {
    Some(name.as_bytes())
}

fn find(interest: &mut Interest<u32>, subject: &str) -> (Vec<u32>, Vec<(String, Vec<u32>)>) {
    let mut out = Matches::default();
    interest.matches(subject.as_bytes(), &mut out);
    let groups = out
        .groups()
        .iter()
        .map(|group| (String::from_utf8(group.name().to_vec()).unwrap(), group.members().to_vec()));
    (out.plain().to_vec(), groups.collect())
}

#[test]
fn plain_subscribers_in_order() {
    let mut interest = Interest::default();
    for (pattern, subscriber) in
        [("a.b", 1), ("a.*", 2), (">", 3), ("a.b", 4), ("b", 5), ("a.>", 6)]
    {
        assert!(
            interest.insert(pattern.as_bytes(), PLAIN, subscriber).is_some() != (subscriber == 4)
        );
    }
    assert_eq!(find(&mut interest, "a.b").0, [1, 4, 3, 6, 2]);
    assert_eq!(find(&mut interest, "a.c").0, [3, 6, 2]);
    assert_eq!(find(&mut interest, "a").0, [3]);
    assert!(find(&mut interest, "a..b").0.is_empty());
    assert_eq!(find(&mut interest, "a.*").0, [3, 6, 2]);
    assert_eq!((interest.len(), interest.patterns_count()), (6, 5));
}

#[test]
fn changes_are_told_once() {
    let mut interest = Interest::default();
    let pattern = Bytes::from_static(b"a.*");
    let added = |queue| InterestChange::Added { pattern: pattern.clone(), queue };
    let removed = |queue| InterestChange::Removed { pattern: pattern.clone(), queue };
    assert_eq!(interest.insert(&pattern, PLAIN, 1), Some(added(None)));
    assert_eq!(interest.insert(&pattern, PLAIN, 2), None);
    assert_eq!(interest.insert(&pattern, PLAIN, 2), None);
    let group = Some(Bytes::from_static(b"q"));
    assert_eq!(interest.insert(&pattern, queue("q"), 2), Some(added(group.clone())));
    assert_eq!(interest.insert(&pattern, queue("q"), 3), Some(added(group.clone())));
    assert_eq!(interest.remove(&pattern, PLAIN, 1), None);
    assert_eq!(interest.remove(&pattern, PLAIN, 1), None);
    assert_eq!(interest.remove(&pattern, PLAIN, 2), None);
    assert_eq!(interest.remove(&pattern, PLAIN, 2), Some(removed(None)));
    assert_eq!(interest.remove(&pattern, queue("q"), 4), None);
    assert_eq!(interest.remove(&pattern, queue("p"), 2), None);
    assert_eq!(interest.remove(b"a.>", PLAIN, 2), None);
    assert_eq!(interest.remove(b"a", PLAIN, 2), None);
    assert_eq!(interest.remove(&pattern, queue("q"), 2), Some(removed(group.clone())));
    assert!(!interest.is_empty());
    assert_eq!(interest.remove(&pattern, queue("q"), 3), Some(removed(group)));
    assert!(interest.is_empty());
    assert_eq!(interest.patterns_count(), 0);
}

#[test]
fn groups_merge_over_patterns() {
    let mut interest = Interest::default();
    for (pattern, name, subscriber) in
        [("a.b", "q", 1), ("a.*", "q", 2), ("a.*", "r", 3), (">", "s", 4), ("a.b", "q", 5)]
    {
        interest.insert(pattern.as_bytes(), queue(name), subscriber);
    }
    let (plain, groups) = find(&mut interest, "a.b");
    assert!(plain.is_empty());
    let expected = [("q", vec![1, 5, 2]), ("s", vec![4]), ("r", vec![3])];
    assert_eq!(groups, expected.map(|(name, members)| (name.to_owned(), members)));
    let mut out = Matches::default();
    interest.matches(b"a.b", &mut out);
    assert_eq!(out.members(b"r"), [3]);
    // Slots of an earlier lookup do not shine through.
    interest.matches(b"x", &mut out);
    assert_eq!(out.groups().len(), 1);
    assert!(out.members(b"q").is_empty());
    assert!(!out.is_empty());
}

#[test]
fn deep_subjects_and_patterns_end() {
    let mut interest = Interest::default();
    let deep = "*.".repeat(20_000) + ">";
    interest.insert(deep.as_bytes(), PLAIN, 1);
    assert_eq!(find(&mut interest, &("a.".repeat(20_000) + "a")).0, [1]);
    assert!(find(&mut interest, &("a.".repeat(19_999) + "a")).0.is_empty());
    assert!(interest.remove(deep.as_bytes(), PLAIN, 1).is_some());
}

#[test]
fn core_sets() {
    let mut cores = CoreSet::default();
    for core in [63, 0, 5] {
        cores.insert(CoreId(core));
    }
    cores.insert(CoreId(7));
    cores.remove(CoreId(7));
    assert_eq!(cores.iter().collect::<Vec<_>>(), [CoreId(0), CoreId(5), CoreId(63)]);
    assert_eq!((cores.len(), cores.bits()), (3, 1 << 63 | 1 << 5 | 1));
    assert!(cores.contains(CoreId(63)) && !cores.contains(CoreId(7)));
    assert_eq!(CoreSet::default().iter().next(), None);
}

#[test]
fn remote_counts() {
    let mut remote = RemoteInterest::default();
    let mut out = RemoteMatches::default();
    let member = |core, count| RemoteMembers { core: CoreId(core), count };
    remote.add(CoreId(3), b"a.*", PLAIN);
    remote.add(CoreId(3), b"a.*", PLAIN);
    remote.add(CoreId(1), b"a.b", PLAIN);
    remote.add(CoreId(2), b"a.b", queue("q"));
    remote.add(CoreId(1), b"a.b", queue("q"));
    remote.add(CoreId(2), b"a.*", queue("q"));
    remote.add(CoreId(0), b"a.*", queue("q"));
    remote.matches(b"a.b", &mut out);
    assert_eq!(out.cores().iter().collect::<Vec<_>>(), [CoreId(1), CoreId(3)]);
    assert_eq!(out.members(b"q"), [member(0, 1), member(1, 1), member(2, 2)]);
    assert_eq!(out.groups().len(), 1);
    remote.remove(CoreId(3), b"a.*", PLAIN);
    remote.remove(CoreId(2), b"a.b", queue("q"));
    remote.remove(CoreId(1), b"a.b", queue("q"));
    remote.matches(b"a.b", &mut out);
    assert_eq!(out.cores().iter().collect::<Vec<_>>(), [CoreId(1), CoreId(3)]);
    assert_eq!(out.members(b"q"), [member(0, 1), member(2, 1)]);
    remote.remove(CoreId(3), b"a.*", PLAIN);
    remote.remove(CoreId(1), b"a.b", PLAIN);
    remote.remove(CoreId(2), b"a.*", queue("q"));
    remote.remove(CoreId(0), b"a.*", queue("q"));
    remote.matches(b"a.b", &mut out);
    assert!(out.is_empty());
    assert_eq!(remote.patterns_count(), 0);
}

/// A core's table, the same subscriptions as a list, and what another core knows of it.
#[derive(Default)]
struct Model {
    interest: Interest<u32>,
    list: Vec<(String, Option<String>, u32)>,
}

/// What was found, in an order that does not depend on how.
type Found = (Vec<u32>, Vec<(String, Vec<u32>)>);

impl Model {
    fn step(&mut self, random: &mut fastrand::Rng) -> Option<InterestChange> {
        let is_removal = !self.list.is_empty() && random.u8(..100) < 48;
        if is_removal {
            let (pattern, name, subscriber) =
                self.list.swap_remove(random.usize(..self.list.len()));
            let name = name.as_deref().map(str::as_bytes);
            return self.interest.remove(pattern.as_bytes(), name, subscriber);
        }
        let pattern = random_subject(random, true);
        let name = random.bool().then(|| format!("q{}", random.u8(..3)));
        let subscriber = random.u32(..20);
        self.list.push((pattern.clone(), name.clone(), subscriber));
        self.interest.insert(pattern.as_bytes(), name.as_deref().map(str::as_bytes), subscriber)
    }

    fn expected(&self, subject: &str) -> Found {
        let mut plain = Vec::new();
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        for (pattern, name, subscriber) in &self.list {
            if !subject::matches(pattern.as_bytes(), subject.as_bytes()) {
                continue;
            }
            let Some(name) = name else {
                plain.push(*subscriber);
                continue;
            };
            match groups.iter_mut().find(|(known, _)| known == name) {
                Some((_, members)) => members.push(*subscriber),
                None => groups.push((name.clone(), vec![*subscriber])),
            }
        }
        sorted((plain, groups))
    }
}

fn sorted((mut plain, mut groups): Found) -> Found {
    plain.sort_unstable();
    groups.iter_mut().for_each(|(_, members)| members.sort_unstable());
    groups.sort_unstable();
    (plain, groups)
}

fn random_subject(random: &mut fastrand::Rng, is_pattern: bool) -> String {
    let count = random.usize(1..5);
    let mut tokens: Vec<&str> =
        (0..count).map(|_| random.choice(["a", "b", "a", "*", "c*"]).unwrap()).collect();
    if random.u8(..5) == 0 {
        tokens[count - 1] = ">";
    }
    if !is_pattern && random.u8(..10) == 0 {
        tokens[random.usize(..count)] = "";
    }
    tokens.join(".")
}

#[test]
fn random_changes_against_a_list() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut cores = [Model::default(), Model::default(), Model::default()];
        let mut remote = RemoteInterest::default();
        let mut out = Matches::default();
        let mut remote_out = RemoteMatches::default();
        for _ in 0..1_000 {
            let index = random.usize(..cores.len());
            if let Some(change) = cores[index].step(&mut random) {
                remote.apply(CoreId(u16::try_from(index).unwrap()), &change);
            }
            let subject = random_subject(&mut random, false);
            let mut expected_cores = CoreSet::default();
            for (index, core) in cores.iter_mut().enumerate() {
                let expected = core.expected(&subject);
                core.interest.matches(subject.as_bytes(), &mut out);
                let found = find(&mut core.interest, &subject);
                assert_eq!(out.plain(), found.0, "the same twice, seed {seed}");
                assert_eq!(sorted(found), expected, "seed {seed}, subject {subject}");
                assert_eq!(core.interest.len(), core.list.len());
                let id = CoreId(u16::try_from(index).unwrap());
                if !expected.0.is_empty() {
                    expected_cores.insert(id);
                }
                remote.matches(subject.as_bytes(), &mut remote_out);
                for name in ["q0", "q1", "q2"] {
                    let members = remote_out.members(name.as_bytes());
                    let told = members.iter().find(|members| members.core == id);
                    let group = expected.1.iter().find(|(known, _)| known == name);
                    let count = group.map(|(_, members)| members.len());
                    assert_eq!(told.map(|members| members.count), count, "seed {seed}");
                }
            }
            remote.matches(subject.as_bytes(), &mut remote_out);
            assert_eq!(remote_out.cores(), expected_cores, "seed {seed}, subject {subject}");
        }
    }
}

#[test]
fn same_changes_same_order() {
    let run = || {
        let mut random = fastrand::Rng::with_seed(7);
        let mut model = Model::default();
        let mut found = Vec::new();
        for _ in 0..2_000 {
            model.step(&mut random);
            found.push(find(&mut model.interest, &random_subject(&mut random, false)));
        }
        found
    };
    assert_eq!(run(), run());
}
