//! Parameters as one matrix: where they can be, and that each of them receives its gradient by it.

use std::error::Error;

use evenkeel_schedule::{DType, Dim, Operand::GradientTo, ParameterDecl, Params, Phase, Recorder, TensorId};
use evenkeel_shaders::accumulate;

type Outcome = Result<(), Box<dyn Error>>;

/// Columns of all matrices.
const K: usize = 16;
const NAMES: [&str; 3] = ["q", "k", "v"];

/// A matrix (rows, K), trained and decayed.
fn matrix(name: &str, rows: usize) -> ParameterDecl {
    let shape = vec![Dim { name: "N", extent: rows }, Dim { name: "K", extent: K }];
    ParameterDecl { name: name.to_owned(), shape, decayed: true, trainable: true }
}

/// q (16, K), k (8, K), v (8, K), one behind the other.
fn qkv() -> [ParameterDecl; 3] {
    [matrix("q", 16), matrix("k", 8), matrix("v", 8)]
}

fn find(r: &Recorder, names: &[&str]) -> Result<Vec<TensorId>, Box<dyn Error>> {
    Ok(names.iter().map(|name| r.find(name)).collect::<Result<_, _>>()?)
}

fn join(r: &mut Recorder, names: &[&str]) -> Result<Option<TensorId>, Box<dyn Error>> {
    let members = find(r, names)?;
    Ok(r.joined("joined", &members)?)
}

fn recorder(decls: &[ParameterDecl]) -> Result<Recorder, Box<dyn Error>> {
    let mut r = Recorder::new(1 << 20, false);
    r.parameters(decls)?;
    Ok(r)
}

#[test]
fn neighbours_are_joined_with_their_gradients_and_copies() -> Outcome {
    let mut r = Recorder::new(1 << 20, false).with_half_copies();
    r.parameters(&[&[matrix("before", 8)], &qkv()[..], &[matrix("after", 8)]].concat())?;
    r.half_copies(|name| name != "after")?;
    let joined = join(&mut r, &NAMES)?.ok_or("expected a joined matrix")?;
    assert_eq!(r.tensor(joined).to_string(), "joined (N=32, K=16)");
    assert!(r.wants_gradient(joined));
    for (name, first) in [("joined", "q"), ("joined.grad", "q.grad"), ("joined.half", "q.half")] {
        let [whole, first] = [r.find(name)?, r.find(first)?].map(|id| r.tensor(id).clone());
        assert_eq!((whole.within, whole.role, whole.dtype), (first.within, first.role, first.dtype), "{name}");
        assert_eq!(whole.len(), 32 * K, "{name}");
    }
    r.set_storage(DType::F16);
    assert_eq!(r.operand(joined)?, r.find("joined.half")?);
    assert_eq!(join(&mut r, &NAMES)?, Some(joined), "asked for again");
    let moments = r.moments("exp_avg")?;
    assert!(!moments.is_empty() && r.find("q.exp_avg").is_ok() && r.find("joined.exp_avg").is_err());
    Ok(())
}

#[test]
fn what_is_frozen_as_a_whole_is_joined_without_a_gradient() -> Outcome {
    let frozen = qkv().map(|decl| ParameterDecl { trainable: false, ..decl });
    let mut r = recorder(&[&frozen[..], &[matrix("other", 8)]].concat())?;
    let joined = join(&mut r, &NAMES)?.ok_or("expected a joined matrix")?;
    assert!(!r.wants_gradient(joined) && r.find("joined.grad").is_err());
    r.begin_phase(Phase::ForwardBackward)?;
    assert_eq!(r.gradient_target(joined)?, None);
    Ok(())
}

#[test]
fn what_does_not_lie_side_by_side_is_not_joined() -> Outcome {
    let [q, k, v] = qkv();
    let frozen = ParameterDecl { trainable: false, ..q.clone() };
    let not_decayed = ParameterDecl { decayed: false, ..k.clone() };
    let vector = ParameterDecl { shape: vec![Dim { name: "C", extent: 128 }], ..k.clone() };
    let narrow = [("N", 16), ("K", K / 2)].map(|(name, extent)| Dim { name, extent });
    let narrow = ParameterDecl { shape: narrow.to_vec(), ..k.clone() };
    let odd = matrix("k", 7);
    for (what, decls) in [
        ("q frozen", [frozen, k.clone(), v.clone()]),
        ("k not decayed", [q.clone(), not_decayed, v.clone()]),
        ("another order", [q.clone(), v.clone(), k.clone()]),
        ("k padded", [q.clone(), odd, v.clone()]),
        ("k with other columns", [q.clone(), narrow, v.clone()]),
        ("k a vector", [q.clone(), vector, v.clone()]),
    ] {
        assert_eq!(join(&mut recorder(&decls)?, &NAMES)?, None, "{what}");
    }
    let mut r = recorder(&[q.clone(), matrix("between", 8), k.clone(), v.clone()])?;
    assert_eq!(join(&mut r, &NAMES)?, None, "another between");
    assert_eq!(join(&mut r, &[])?, None, "none");
    // The first arena holds q and k, and no more.
    let mut r = Recorder::new((24 * K * DType::F32.size()) as u64, false);
    r.parameters(&[q, k, v])?;
    assert_eq!(join(&mut r, &NAMES)?, None, "two arenas");
    assert!(join(&mut r, &["q", "k"])?.is_some(), "one arena");
    Ok(())
}

#[test]
fn what_has_copies_of_some_only_is_not_joined() -> Outcome {
    for copied in [&["q"][..], &["k", "v"], &["q", "v"]] {
        let mut r = Recorder::new(1 << 20, false).with_half_copies();
        r.parameters(&qkv())?;
        r.half_copies(|name| copied.contains(&name))?;
        assert_eq!(join(&mut r, &NAMES)?, None, "{copied:?}");
    }
    Ok(())
}

/// Every member counts as reached; the first contribution is written, or added in a micro-batch, the next ones are added.
#[test]
fn a_gradient_of_the_joined_matrix_is_one_of_every_member() -> Outcome {
    for add in [false, true] {
        let mut r = Recorder::new(1 << 20, add);
        r.parameters(&qkv())?;
        let joined = join(&mut r, &NAMES)?.ok_or("expected a joined matrix")?;
        r.begin_phase(Phase::ForwardBackward)?;
        let params = || Params::dims([("N", 32 * K)]);
        let added = |r: &Recorder| r.gradient_of(joined).map(|gradient| r.tensor(gradient).name.clone());
        for _ in 0..2 {
            r.run(&accumulate::CARD, params(), &[joined.into(), GradientTo(joined)])?;
            assert_eq!(added(&r)?, "joined.grad");
        }
        let v = r.find("v")?;
        let target = r.gradient_target(v)?.ok_or("expected a target")?;
        assert!(target.accumulate && target.tensor == r.find("v.grad")?);
        r.backward()?;
        let schedule = r.finish()?;
        let adds: Vec<bool> = schedule.steps().iter().map(|step| step.params.accumulates()).collect();
        assert_eq!(adds, [add, true]);
    }
    Ok(())
}

#[test]
fn a_member_with_a_gradient_of_its_own_before_is_refused_by_name() -> Outcome {
    let mut r = recorder(&qkv())?;
    let joined = join(&mut r, &NAMES)?.ok_or("expected a joined matrix")?;
    r.begin_phase(Phase::ForwardBackward)?;
    let k = r.find("k")?;
    r.gradient_target(k)?;
    let message = r.gradient_target(joined).err().ok_or("expected an error")?.to_string();
    assert!(message.contains("joined") && message.contains("k (N=8, K=16)"), "{message}");
    Ok(())
}
