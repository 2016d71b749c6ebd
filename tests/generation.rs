//! Generation with its cache against PyTorch without one: logits of every position, and texts token by token. And that a
//! text depends on nothing but its prompt and the seed.

use std::{collections::HashMap, error::Error, sync::Arc};

use evenkeel_model::generation::{GenerationShape, GenerationStep, GenerationTensors};
use evenkeel_schedule::Phase;
use evenkeel_tests::golden::{Golden, largest_difference};
use evenkeel_train::{
    Compute, End, Executor, Generation, MOST_SEQUENCES, Program, ProgramParts, Reader, Sampling, TrainError, generate,
};
use serde_json::Value;

/// As in `model.rs`: PyTorch's own f32 lies up to 1e-6 from the golden logits.
const LOGITS: f64 = 1e-5;
const MODELS: [&str; 6] = ["llama-gqa", "llama-tied", "llama-headdim", "llama-tvr", "kat-abs-sum", "kat-sum-abs"];

type Outcome = Result<(), Box<dyn Error>>;

fn gpu() -> Compute {
    match evenkeel_tests::gpu() {
        Ok(gpu) => Compute::Gpu(Arc::clone(gpu)),
        Err(message) => panic!("{message}"),
    }
}

/// A golden model, ready to generate.
struct Model {
    golden: Golden,
    program: Program,
    executor: Executor,
}

impl Model {
    async fn new(name: &str, compute: &Compute, shape: GenerationShape) -> Result<Self, Box<dyn Error>> {
        let golden = Golden::load(name)?;
        let parts = ProgramParts { generation: Some(shape), ..ProgramParts::default() };
        let program = Program::record(&golden.config, &parts, compute.binding_limit())?;
        let executor = program.prepare(compute, &golden.weights, &mut |_, _| ()).await?;
        Ok(Self { golden, program, executor })
    }

    fn tensors(&self) -> GenerationTensors {
        self.program.generation.clone().unwrap_or_else(|| panic!("expected generation"))
    }

    async fn run(
        &mut self,
        phase: Phase,
        step: GenerationStep,
        tokens: &[u32],
        rows: &[[u32; 2]],
    ) -> Result<Vec<f32>, TrainError> {
        self.executor.write(step.tokens, tokens)?;
        self.executor.write(step.rows, rows)?;
        self.executor.run(phase).await?;
        self.executor.read(step.logits).await
    }

    async fn texts(&mut self, prompts: &[Vec<u32>], options: &Generation) -> Result<Texts, TrainError> {
        let mut texts = Texts::default();
        generate(&self.program, &mut self.executor, prompts, options, &mut texts).await?;
        Ok(texts)
    }
}

/// What a generation gave, by prompt.
#[derive(Debug, Default, PartialEq)]
struct Texts {
    tokens: HashMap<usize, Vec<u32>>,
    ends: HashMap<usize, End>,
    /// Tokens after which the reader interrupts.
    patience: Option<usize>,
}

impl Reader for Texts {
    fn token(&mut self, prompt: usize, token: u32) -> bool {
        assert!(!self.ends.contains_key(&prompt), "prompt {prompt}: expected no token after its end");
        self.tokens.entry(prompt).or_default().push(token);
        true
    }

    fn ended(&mut self, prompt: usize, end: End) {
        assert_eq!(self.ends.insert(prompt, end), None, "prompt {prompt}: expected one end");
    }

    fn interrupted(&mut self) -> bool {
        self.patience.is_some_and(|most| self.tokens.values().map(Vec::len).sum::<usize>() >= most)
    }
}

fn greedy(max_new_tokens: usize) -> Generation {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Generation { sampling, max_new_tokens, end_token: None, known_tokens: usize::MAX }
}

/// Sequences of other lengths go in by pieces whose last is padded, then grow side by side; every logit is PyTorch's.
async fn logits_are_pytorchs(compute: &Compute) -> Outcome {
    const PIECE: usize = 4;
    for name in MODELS {
        let [_, batch, time] = Golden::load(name)?.extents;
        let shape = GenerationShape { sequences: batch, context: time, piece: PIECE };
        let mut model = Model::new(name, compute, shape).await?;
        let tensors = model.tensors();
        let vocabulary = model.golden.config.vocab_size;
        let ids: Vec<u32> = model.golden.stream[..batch * time].iter().map(|&id| u32::from(id)).collect();
        let expected = model.golden.tensor("logits").to_vec();
        let check = |got: &[f32], b: usize, t: usize| {
            let difference =
                largest_difference(&got[..vocabulary], &expected[(b * time + t) * vocabulary..][..vocabulary]);
            assert!(difference < LOGITS, "{name}, row {b}, position {t}: expected {LOGITS:e}, got {difference:e}");
        };
        let prompt = |b: usize| 3 + 4 * b; // 3, 7, 11: with 1 place of padding, after one piece or two
        for b in 0..batch {
            for first in (0..prompt(b)).step_by(PIECE) {
                let last = prompt(b).min(first + PIECE) - 1;
                let row = |t: usize| if t <= last { [b as u32, t as u32] } else { [u32::MAX, 0] };
                let rows: Vec<_> = (first..first + PIECE).map(row).collect();
                model.executor.write(tensors.last, &[(last - first) as u32])?;
                let tokens: Vec<u32> =
                    (first..first + PIECE).map(|t| if t <= last { ids[b * time + t] } else { 0 }).collect();
                let got = model.run(Phase::Prefill, tensors.prefill, &tokens, &rows).await?;
                check(&got, b, last);
                // What stands in the padding does not matter, to the bit.
                let tokens: Vec<u32> =
                    (first..first + PIECE).map(|t| if t <= last { ids[b * time + t] } else { 1 }).collect();
                assert_eq!(model.run(Phase::Prefill, tensors.prefill, &tokens, &rows).await?, got, "{name}: padding");
            }
        }
        for step in 0..time {
            let position = |b: usize| prompt(b) + step;
            let inside = |b: usize| position(b) < time;
            let rows: Vec<_> =
                (0..batch).map(|b| if inside(b) { [b as u32, position(b) as u32] } else { [u32::MAX, 0] }).collect();
            let tokens: Vec<_> = (0..batch).map(|b| if inside(b) { ids[b * time + position(b)] } else { 0 }).collect();
            let got = model.run(Phase::Decode, tensors.decode, &tokens, &rows).await?;
            for b in (0..batch).filter(|&b| inside(b)) {
                check(&got[b * tensors.logits_stride..], b, position(b));
            }
        }
    }
    Ok(())
}

#[test]
fn logits_with_a_cache_are_pytorchs_cpu() -> Outcome {
    pollster::block_on(logits_are_pytorchs(&Compute::Cpu))
}

#[test]
fn logits_with_a_cache_are_pytorchs_gpu() -> Outcome {
    pollster::block_on(logits_are_pytorchs(&gpu()))
}

/// Four prompts of 1 to 9 tokens in three places: one waits for another's end.
async fn texts_are_pytorchs(compute: &Compute) -> Outcome {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/generation.json");
    let fixture: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    for name in MODELS {
        let known: Vec<[Vec<u32>; 2]> = fixture["texts"][name]
            .as_array()
            .ok_or(name)?
            .iter()
            .map(|text| {
                Ok([serde_json::from_value(text["prompt"].clone())?, serde_json::from_value(text["tokens"].clone())?])
            })
            .collect::<Result<_, serde_json::Error>>()?;
        let most = Golden::load(name)?.config.max_position_embeddings;
        let shape = GenerationShape { sequences: 3, context: most.min(24), piece: 4 };
        let mut model = Model::new(name, compute, shape).await?;
        let prompts: Vec<_> = known.iter().map(|[prompt, _]| prompt.clone()).collect();
        let texts = model.texts(&prompts, &greedy(usize::MAX)).await?;
        for (i, [prompt, tokens]) in known.iter().enumerate() {
            assert!(tokens.len() >= 8, "{name}: expected a text of some length in the fixture, got {tokens:?}");
            assert_eq!(texts.tokens[&i][..tokens.len()], tokens[..], "{name}, after {prompt:?}");
            assert_eq!(texts.tokens[&i].len(), shape.context - prompt.len(), "{name}, after {prompt:?}");
            assert_eq!(texts.ends[&i], End::Context);
        }
    }
    Ok(())
}

#[test]
fn the_likeliest_texts_are_pytorchs_cpu() -> Outcome {
    pollster::block_on(texts_are_pytorchs(&Compute::Cpu))
}

#[test]
fn the_likeliest_texts_are_pytorchs_gpu() -> Outcome {
    pollster::block_on(texts_are_pytorchs(&gpu()))
}

/// Texts drawn side by side, in batches of every kind, are those drawn alone.
async fn texts_do_not_depend_on_neighbours(compute: &Compute) -> Outcome {
    let prompts: Vec<Vec<u32>> = (0..11_u32).map(|i| (0..=i).map(|t| (7 * i + 3 * t) % 60).collect()).collect();
    let sampling = Sampling { seed: 5, repetition_penalty: 1.1, ..Sampling::default() };
    let options = Generation { sampling, max_new_tokens: 14, ..greedy(0) };
    for name in ["llama-gqa", "kat-sum-abs"] {
        let mut alone = HashMap::new();
        for sequences in [1, 3, MOST_SEQUENCES] {
            let mut model = Model::new(name, compute, GenerationShape { sequences, context: 30, piece: 8 }).await?;
            let texts = model.texts(&prompts, &options).await?;
            // A cache that other texts have left something in.
            assert_eq!(model.texts(&prompts, &options).await?, texts, "{name}: twice the same");
            assert_eq!(texts.tokens.len(), prompts.len());
            if sequences == 1 {
                for (i, prompt) in prompts.iter().enumerate() {
                    let one = model.texts(std::slice::from_ref(prompt), &options).await?;
                    assert_eq!(one.tokens[&0], texts.tokens[&i], "{name}: prompt {i} alone");
                }
                alone = texts.tokens;
            } else {
                assert_eq!(texts.tokens, alone, "{name}: {sequences} side by side");
            }
        }
        let other = Generation { sampling: Sampling { seed: 6, ..sampling }, ..options };
        let mut model = Model::new(name, compute, GenerationShape { sequences: 3, context: 30, piece: 8 }).await?;
        assert_ne!(model.texts(&prompts, &other).await?.tokens, alone, "{name}: another seed");
    }
    Ok(())
}

#[test]
fn texts_do_not_depend_on_their_neighbours_cpu() -> Outcome {
    pollster::block_on(texts_do_not_depend_on_neighbours(&Compute::Cpu))
}

#[test]
fn texts_do_not_depend_on_their_neighbours_gpu() -> Outcome {
    pollster::block_on(texts_do_not_depend_on_neighbours(&gpu()))
}

#[test]
fn texts_end_for_every_reason_cpu() -> Outcome {
    pollster::block_on(async {
        let shape = GenerationShape { sequences: 2, context: 16, piece: 8 };
        let mut model = Model::new("llama-gqa", &Compute::Cpu, shape).await?;
        let prompts = [vec![3], vec![5, 6, 7], vec![9; 16], vec![8; 15]];
        let all = model.texts(&prompts, &greedy(usize::MAX)).await?;
        assert_eq!([0, 1, 3].map(|i| all.tokens[&i].len()), [15, 13, 1]);
        assert!(!all.tokens.contains_key(&2) && all.ends.values().all(|end| *end == End::Context));

        let some = model.texts(&prompts, &greedy(4)).await?;
        assert_eq!(some.tokens[&0], all.tokens[&0][..4]);
        assert_eq!([0, 1, 2, 3].map(|i| some.ends[&i]), [End::Length, End::Length, End::Context, End::Context]);
        let none = model.texts(&prompts[..2], &greedy(0)).await?;
        assert!(none.tokens.is_empty() && none.ends.values().all(|end| *end == End::Length));

        let end_token = all.tokens[&1][3];
        let first = all.tokens[&1].iter().position(|&token| token == end_token).ok_or("expected the end token")?;
        let ended = model.texts(&prompts[1..2], &Generation { end_token: Some(end_token), ..greedy(99) }).await?;
        assert_eq!(ended.tokens.get(&0).map_or(&[][..], Vec::as_slice), &all.tokens[&1][..first]);
        assert_eq!(ended.ends[&0], End::EndToken);

        let known = Generation { known_tokens: 2, ..greedy(6) };
        assert!(model.texts(&prompts[..2], &known).await?.tokens.values().flatten().all(|&token| token < 2));

        let mut texts = Texts { patience: Some(5), ..Texts::default() };
        generate(&model.program, &mut model.executor, &prompts[..2], &greedy(99), &mut texts).await?;
        assert_eq!(texts.tokens.values().map(Vec::len).sum::<usize>(), 6, "5, and the one of the same step");
        assert!(texts.ends.values().all(|end| *end == End::Interrupted) && texts.ends.len() == 2);
        Ok(())
    })
}

/// Reads until it was asked so often whether to go on.
struct Impatient {
    asked: usize,
    patience: usize,
    seen: Texts,
}

impl Reader for Impatient {
    fn token(&mut self, prompt: usize, token: u32) -> bool {
        self.seen.token(prompt, token)
    }

    fn ended(&mut self, prompt: usize, end: End) {
        self.seen.ended(prompt, end);
    }

    fn interrupted(&mut self) -> bool {
        self.asked += 1;
        self.asked > self.patience
    }
}

/// Once before it begins, and before every other piece: a long prompt can be given up in the middle.
#[test]
fn a_prompt_is_given_up_between_its_pieces_cpu() -> Outcome {
    pollster::block_on(async {
        let shape = GenerationShape { sequences: 1, context: 16, piece: 4 };
        let mut model = Model::new("llama-gqa", &Compute::Cpu, shape).await?;
        for (patience, new) in [(0, None), (1, None), (2, None), (3, Some(1)), (4, Some(2))] {
            let mut reader = Impatient { asked: 0, patience, seen: Texts::default() };
            generate(&model.program, &mut model.executor, &[vec![7; 12]], &greedy(9), &mut reader).await?;
            assert_eq!(reader.seen.tokens.get(&0).map(Vec::len), new, "after {patience} times");
            let end = if patience == 0 { None } else { Some(&End::Interrupted) };
            assert_eq!((reader.seen.ends.get(&0), reader.asked), (end, patience + 1));
        }
        Ok(())
    })
}

#[test]
fn prompts_are_checked_before_the_first_begins_cpu() -> Outcome {
    pollster::block_on(async {
        let shape = GenerationShape { sequences: 1, context: 16, piece: 8 };
        let mut model = Model::new("llama-gqa", &Compute::Cpu, shape).await?;
        for (prompt, parts) in [
            (vec![], ["prompt 2", "1 to 16 tokens", "got 0"]),
            (vec![1; 17], ["prompt 2", "1 to 16 tokens", "got 17"]),
            (vec![101], ["prompt 2", "vocab_size 101", "got 101"]),
        ] {
            let mut texts = Texts::default();
            let prompts = [vec![1], prompt];
            let ended = generate(&model.program, &mut model.executor, &prompts, &greedy(3), &mut texts).await;
            let error = ended.err().ok_or("expected an error")?.to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
            assert_eq!(texts, Texts::default());
        }
        Ok(())
    })
}
