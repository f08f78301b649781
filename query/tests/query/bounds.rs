//! However a statement grows, a session answers it or refuses it, and answers the next one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use watershed_lake::Warehouse;
use watershed_query::{QueryError, Session};

use crate::grown::{EXPRESSIONS, STATEMENTS};

async fn run(session: &Session, text: &str) -> Result<(), QueryError> {
    let result = session.query(text).await?;
    result.stream.try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_outlives_statements_of_any_length() {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    let session = Session::new(warehouse).unwrap();
    let of_expressions = EXPRESSIONS.iter().map(|(name, production)| (name, production, "SELECT "));
    let of_statements = STATEMENTS.iter().map(|(name, production)| (name, production, ""));
    for (name, production, before) in of_expressions.chain(of_statements) {
        for n in [100, 20_000] {
            let text = format!("{before}{}", production(n));
            let started = Instant::now();
            if let Err(error) = run(&session, &text).await {
                assert!(!error.to_string().is_empty(), "{name} × {n}");
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{name} × {n}: {:?}", started.elapsed());
        }
    }
    run(&session, "SELECT 1").await.unwrap();
}

/// While a statement is planned nobody can end what it computes.
#[tokio::test]
async fn constants_that_take_long_are_no_part_of_planning() {
    let session = Session::new(Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap();
    let distance = "levenshtein(repeat('a', 60000), repeat('b', 60000))";
    let sum = [distance; 100].join(" + ");
    for query in [format!("SELECT {sum}"), "SELECT length(repeat('x', 60000000))".to_owned()] {
        let started = Instant::now();
        let result = session.query(&query).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        drop(result);
    }
    run(&session, "SELECT length(repeat('x', 60000000)), repeat('x', 3)").await.unwrap();
}
