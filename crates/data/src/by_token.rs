//! Rows sorted by their token, for a backward of the embedding that adds up in a fixed order.

use crate::DataError;
use crate::batches::has_length;

/// Sorts the rows of a batch by token, stably, by counting: `order[start[v]..start[v + 1]]` are the rows r with
/// `tokens[r] == v`, ascending. `order` has as many elements as `tokens`, and `start` has `vocab + 1`.
///
/// # Errors
/// Slices of other lengths, and a token not below `vocab`.
pub fn by_token(tokens: &[u32], vocab: usize, order: &mut [u32], start: &mut [u32]) -> Result<(), DataError> {
    has_length("order", order, tokens.len())?;
    has_length("start", start, vocab.saturating_add(1))?;
    start.fill(0);
    for (position, id) in tokens.iter().enumerate() {
        // The count of token v goes to start[v + 1], and the sum of all before it is where v begins.
        match start[1..].get_mut(*id as usize) {
            Some(count) => *count += 1,
            None => {
                return Err(DataError::TokenOutOfRange {
                    location: "batch".into(),
                    position: position as u64,
                    id: *id,
                    vocab_size: vocab,
                });
            }
        }
    }
    for v in 0..vocab {
        start[v + 1] += start[v];
    }
    for (row, id) in (0..).zip(tokens) {
        let place = &mut start[*id as usize];
        order[*place as usize] = row;
        *place += 1;
    }
    // Now start[v] is where v ends, that is where v + 1 begins.
    start.copy_within(0..vocab, 1);
    start[0] = 0;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a search through all rows for each token.
        #[test]
        fn rows_of_each_token_are_listed(
            (vocab, tokens) in (1usize..20).prop_flat_map(|vocab| {
                (Just(vocab), proptest::collection::vec(0..vocab as u32, 0..60))
            }),
        ) {
            let mut order = vec![u32::MAX; tokens.len()];
            let mut start = vec![u32::MAX; vocab + 1];
            by_token(&tokens, vocab, &mut order, &mut start).unwrap();
            for v in 0..vocab {
                let rows: Vec<u32> = (0..tokens.len() as u32).filter(|row| tokens[*row as usize] == v as u32).collect();
                prop_assert_eq!(&order[start[v] as usize..start[v + 1] as usize], rows);
            }
            prop_assert_eq!((start[0], start[vocab]), (0, tokens.len() as u32));
        }
    }

    #[test]
    fn impossible_arguments_are_named() {
        let fault = |tokens: &[u32], vocab, order, start| {
            by_token(tokens, vocab, &mut vec![0; order], &mut vec![0; start]).unwrap_err()
        };
        assert!(matches!(
            fault(&[0, 1, 4], 4, 3, 5),
            DataError::TokenOutOfRange { position: 2, id: 4, vocab_size: 4, .. }
        ));
        assert!(matches!(fault(&[u32::MAX], 4, 1, 5), DataError::TokenOutOfRange { .. }));
        assert!(matches!(fault(&[0], 4, 2, 5), DataError::Argument { name: "order", .. }));
        assert!(matches!(fault(&[0], 4, 1, 4), DataError::Argument { name: "start", .. }));
    }
}
