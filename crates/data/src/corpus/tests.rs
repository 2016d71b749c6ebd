#![allow(clippy::unwrap_used)]

use super::*;
use crate::shards::{ShardWriter, Width};
use crate::{Batches, Order};
use std::fs;

fn tokens(corpus: &Corpus) -> Vec<u32> {
    let mut out = vec![0; corpus.len() as usize];
    corpus.read(0, &mut out);
    out
}

fn text(bytes: &str) -> Vec<u32> {
    bytes.bytes().map(u32::from).collect()
}

#[test]
fn text_beside_shards_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["text.txt", "shard.bin"].map(|name| folder.path().join(name));
    assert!(matches!(Corpus::open(&paths, 512), Err(DataError::Mixed { .. })));
}

#[test]
fn reading_wraps_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, "0123456789").unwrap();
    let corpus = Corpus::open(&[path], 256).unwrap();
    assert_eq!(tokens(&corpus), text("0123456789"));
    let expected = text("0123456789").repeat(5);
    for start in 0..20u64 {
        let mut out = vec![0; 25];
        corpus.read(start, &mut out);
        assert_eq!(out, expected[start as usize..start as usize + 25]);
    }
}

#[test]
fn stories_need_their_letters() {
    assert!(Corpus::open::<&Path>(&[], 123).is_ok());
    let fault = Corpus::open::<&Path>(&[], 122).unwrap_err();
    assert!(matches!(fault, DataError::VocabularyTooSmall { expected: 123, got: 122 }));
}

/// However tokens are cut into shards, the batches are the same, at any step and without those before.
#[test]
fn windows_cross_the_borders_of_shards() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<u32> = (0..500).map(|i| i * 131 % 65_000).collect();
    let cut = |name: &str, sizes: &[usize]| {
        let mut rest = &ids[..];
        let mut paths = Vec::new();
        for (i, size) in sizes.iter().chain([&usize::MAX]).enumerate() {
            let (shard, behind) = rest.split_at(rest.len().min(*size));
            rest = behind;
            let path = folder.path().join(format!("{name}-{i}.bin"));
            // Widths may be mixed.
            let mut writer = ShardWriter::create(folder.path().join("partial"), Width::of(65_536 + i % 2)).unwrap();
            writer.add(shard).unwrap();
            writer.finish(&path).unwrap();
            paths.push(path);
        }
        Corpus::open(&paths, 65_000).unwrap()
    };
    let whole = cut("whole", &[]);
    assert_eq!(tokens(&whole), ids);
    for sizes in [&[1, 2, 3, 5, 300, 1][..], &[250], &[10, 10, 10], &[499]] {
        let shards = cut("cut", sizes);
        assert_eq!(tokens(&shards), ids);
        for order in [Order::Shuffled, Order::Sequential] {
            let [a, b] = [&whole, &shards].map(|corpus| Batches::new(corpus.clone(), order, 5, 3, 7, 2).unwrap());
            for step in [0, 1, 7, 40, 3] {
                let fill = |batches: &Batches| {
                    let (mut x, mut y) = (vec![0; 21], vec![0; 21]);
                    let wrapped = batches.fill(step, 1, &mut x, &mut y).unwrap();
                    (x, y, wrapped)
                };
                assert_eq!(fill(&a), fill(&b));
            }
        }
    }
}
