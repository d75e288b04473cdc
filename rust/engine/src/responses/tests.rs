// SPDX-License-Identifier: Apache-2.0
//! Answers that wait, and the end that every request has.

use super::*;

fn channel() -> (Responder, Arc<Channel>) {
    let channel = Arc::new(Channel::new(Instant::now()));
    let responder = Responder {
        channel: Arc::clone(&channel),
        version: Weak::new(),
        received: Instant::now(),
    };
    (responder, channel)
}

fn answer(last: bool) -> Answer {
    Answer::now(Some(Ok(InferResponse::default())), last)
}

fn last_error(channel: &Channel) -> String {
    let mut state = channel.state.lock();
    match state.queue.pop_back() {
        Some(Answer {
            outcome: Some(Err(why)),
            last: true,
            ..
        }) => why.message.into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_finds_no_room_comes_back_and_waits_until_there_is() {
    let (responder, channel) = channel();
    for _ in 0..MOST_ANSWERS {
        assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
    }
    let Sending::Full(answer) = responder.try_send(answer(true)) else {
        panic!("there was room");
    };
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| responder.send_within(answer, Duration::from_secs(60)));
        while channel.state.lock().waiting == 0 {
            std::thread::yield_now();
        }
        channel.state.lock().queue.pop_front();
        channel.room.notify_all();
        assert!(matches!(sending.join().unwrap(), Sending::Sent));
    });
    assert_eq!(channel.state.lock().queue.len(), MOST_ANSWERS);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let (responder, channel) = channel();
    for _ in 0..MOST_ANSWERS {
        responder.try_send(answer(false));
    }
    let patience = Duration::from_millis(5);
    assert!(matches!(
        responder.send_within(answer(false), patience),
        Sending::Sent
    ));
    assert!(responder.is_cancelled());
    assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
    assert_eq!(channel.state.lock().queue.len(), 1);
    assert_eq!(
        last_error(&channel),
        "the client read none of the responses that waited for it for 5ms"
    );
}

#[test]
fn nothing_follows_the_last_answer_and_there_always_is_one() {
    let (responder, channel) = channel();
    assert!(matches!(responder.try_send(answer(true)), Sending::Sent));
    assert!(matches!(responder.try_send(answer(false)), Sending::Closed));
    responder.fail(Error::internal("too late"));
    drop(responder);
    assert_eq!(channel.state.lock().queue.len(), 1);

    let (responder, channel) = self::channel();
    responder.refuse(Error::unavailable("the queue is full"));
    assert_eq!(last_error(&channel), "the queue is full");
    assert!(matches!(responder.try_send(answer(false)), Sending::Closed));

    let (responder, channel) = self::channel();
    drop(responder);
    assert!(last_error(&channel).contains("let go of the response sender"));
}

#[test]
fn large_answers_fill_the_queue_by_their_bytes() {
    let (responder, channel) = channel();
    channel.state.lock().bytes = MOST_BYTES;
    assert!(matches!(
        responder.try_send(answer(false)),
        Sending::Full(_)
    ));
    channel.state.lock().left = true;
    assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
    assert!(channel.state.lock().queue.is_empty());
}
