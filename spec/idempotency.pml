/*
 * Model 2: the idempotency record with its lease, steps, takeover and commit by a transaction.
 * docs/proofs.md explains it. Modelled: lib/idempotency and its scripts.
 *
 * CALLS calls come with one key. Each claims it, works, and completes or releases it. One kind of
 * work is chosen by -DHOLD (a step that must not be repeated), -DRUN (a step that may be), -DCOMMIT
 * (completesRun); none of them is plain work.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifndef CALLS
#define CALLS 3
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LAPSES
#define LAPSES 2
#endif
#ifndef COPIES
#define COPIES 1
#endif
#ifndef LOST
#define LOST 1
#endif
#define NOBODY 9

mtype = { FREE, RUNNING, LASTING, FAILED, COMMITTED, DONE, HELD, RELEASED };       /* states */
mtype = { CLAIMED, BUSY, REPLAY, TOO_LATE, KEPT, LEASE_LOST, OVER, COMPLETED };      /* answers */
mtype = { NONE, BEGUN, UNDONE, ENDED };                                            /* a step */

/* Redis: the record, and the entry of the one step. */
mtype state = FREE;
byte token = NOBODY;
bit alive;                    /* its `alive until` has not passed */
bit hasTrace;                 /* its run has steps */
mtype step = NONE;
byte begunBy = NOBODY;
bit watches[CALLS], dirty[CALLS];

/* The processes. */
bit isOver[CALLS];            /* the lease has ended: Redis and the owner's clock agree */
bit mayCopy[CALLS];           /* a copy of its claim may arrive yet */
bit mayCopyBegin[CALLS];

/* What was done in the world. */
byte effects;                 /* of the transaction */
byte works;                   /* of the step */
bit isFinished;               /* the result of the step was kept */
byte resultOf = NOBODY;       /* the run that callers are told the result of */
byte gaveBack = NOBODY;       /* the run that gave the key back, until another claims it */
bit isInterrupted;            /* a step began, and nobody knows that it did nothing */

byte kills = KILLS, lapses = LAPSES, copies = COPIES, lost = LOST;

inline touch() { for (w : 0 .. CALLS - 1) { if :: watches[w] -> dirty[w] = 1 :: else fi } w = 0 }

inline write(s, who) { state = s; token = who; touch() }

inline claim(i, answer) {
  if
#ifndef NO_RULE_OWN_TOKEN
  :: token == i && (state == RELEASED || state == FAILED) -> answer = TOO_LATE
  :: token == i && state != FREE && state != RELEASED && state != FAILED -> answer = CLAIMED
  :: token != i || state == FREE ->
#else
  :: true ->
#endif
    if
    :: state == RUNNING -> answer = BUSY
    :: (state == LASTING || state == COMMITTED) && alive -> answer = BUSY
    :: state == DONE || (state == COMMITTED && !alive) -> answer = REPLAY
    :: state == HELD -> answer = HELD
    :: (state == LASTING && !alive) || state == FAILED -> write(LASTING, i); alive = 1; answer = CLAIMED
    :: state == FREE || state == RELEASED -> write(RUNNING, i); hasTrace = 0; answer = CLAIMED
    fi
  fi;
  printf("Redis: claim of %d: %e; record %e of %d\n", i, answer, state, token)
}

inline complete(i, to, answer) {
  if
#ifndef NO_RULE_COMPLETE_FENCE
  :: state != FREE && state != RELEASED && token != i -> answer = LEASE_LOST
#endif
  :: token == i && (state == RELEASED || state == FAILED) -> answer = LEASE_LOST
  :: token == i && (state == DONE || state == HELD) -> answer = COMPLETED
#ifdef NO_RULE_COMPLETE_FENCE
  :: !(token == i && (state == DONE || state == HELD || state == RELEASED || state == FAILED)) ->
#else
  :: state == FREE || (state == RELEASED && token != i) || (token == i && (state == RUNNING || state == LASTING || state == COMMITTED)) ->
#endif
    assert(!(state == DONE && token != i));     /* a result that callers may have been told is never replaced */
    write(to, i); answer = COMPLETED
  fi;
  printf("Redis: completion of %d as %e: %e; record %e of %d\n", i, to, answer, state, token)
}

inline release(i, answer) {
  if
  :: state != FREE && (token != i || state == DONE || state == HELD) -> answer = LEASE_LOST
  :: token == i && (state == FAILED || state == RELEASED) -> answer = RELEASED
#ifndef NO_RULE_COMMITTED_STANDS
  :: token == i && state == COMMITTED -> alive = 0; touch(); answer = COMPLETED
  :: token == i && (state == RUNNING || state == LASTING) || state == FREE ->
#else
  :: token == i && (state == RUNNING || state == LASTING || state == COMMITTED) || state == FREE ->
#endif
    if
    :: state == LASTING && hasTrace -> write(FAILED, i)
    :: else ->
#ifdef NO_RULE_RELEASE_MEMORY
      write(FREE, NOBODY)
#else
      write(RELEASED, i)
#endif
    fi;
    answer = RELEASED; gaveBack = i
  fi;
  printf("Redis: release of %d: %e; record %e of %d\n", i, answer, state, token)
}

/* begins: 1 for a begin, 0 for an end; isHeld: the process still counts on its lease. */
inline keepStep(i, begins, isHeld, answer) {
  if
#ifndef NO_RULE_STEP_FENCE
  :: token == i && (state == COMMITTED || state == DONE || state == HELD) -> answer = OVER
  :: state != FREE && (token != i || state == RELEASED || state == FAILED) -> answer = LEASE_LOST
  :: state == FREE && !isHeld -> answer = LEASE_LOST
  :: begins && state == LASTING && token == i && !alive -> answer = LEASE_LOST
  :: (state == FREE && isHeld) || (token == i && (state == RUNNING || (state == LASTING && (alive || !begins)))) ->
    if
    :: state != LASTING ->
#ifdef NO_RULE_LASTING
      write(RUNNING, i)
#else
      write(LASTING, i); alive = 1
#endif
    :: else
    fi;
    if :: !hasTrace -> hasTrace = 1; step = NONE :: else fi;
#else
  :: true -> hasTrace = 1;
    if :: state == RUNNING && token == i -> write(LASTING, i); alive = 1 :: else fi;
#endif
    if
    :: !begins -> step = ENDED; isFinished = 1
#ifdef NO_RULE_END_BEATS_BEGIN
    :: begins && !(step == UNDONE && begunBy == i) -> step = BEGUN; begunBy = i
    :: begins && step == UNDONE && begunBy == i
#else
    :: begins && step != ENDED && !(step == UNDONE && begunBy == i) -> step = BEGUN; begunBy = i
    :: begins && (step == ENDED || (step == UNDONE && begunBy == i))
#endif
    fi;
    answer = KEPT
  fi;
  if :: begins -> printf("Redis: begin of the step by %d: %e; record %e of %d, step %e\n", i, answer, state, token, step)
     :: else -> printf("Redis: end of the step by %d, lease counted on %d: %e; record %e of %d, step %e\n", i, isHeld, answer, state, token, step)
  fi
}

inline unmark(i) {
  if
  :: step == BEGUN && begunBy == i ->
#ifdef NO_RULE_UNDONE_STAYS
    step = NONE; begunBy = NOBODY
#else
    step = UNDONE
#endif
  :: else
  fi;
  printf("Redis: %d takes back that the step began; step %e\n", i, step)
}

/* The result that a caller is told, of the run that has it, is the same for all. */
inline tellResult(r) {
  printf("a caller is told the result of %d\n", r);
  assert(resultOf == NOBODY || resultOf == r);
  resultOf = r
}

/* A process dies. */
#define kill() atomic { kills > 0 -> kills--; printf("fault: %d is killed\n", i) }; goto over

proctype Faults() {
  byte i, w;
  mtype answer;
end:
  do
#ifdef TRACE
  :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true
#endif
  /* A lease ends: its owner stood still, was cut off, or is dead. */
  :: atomic { token != NOBODY && lapses > 0 && !isOver[token] && (state == RUNNING || ((state == LASTING || state == COMMITTED) && alive)) ->
      lapses--; isOver[token] = 1; alive = 0;
#ifndef NO_RULE_COPIES_DIE_FIRST
      mayCopy[token] = 0;
#endif
      printf("the lease of %d ends\n", token);
      if :: state == RUNNING -> write(FREE, NOBODY) :: else fi }
  /* Time passes after which no copy of the claim takes effect; only then Redis may forget the release. */
  :: atomic { state == RELEASED && !mayCopy[token] -> printf("Redis forgets the release of %d\n", token); write(FREE, NOBODY) }
  :: atomic { copies > 0 && (mayCopy[0] || mayCopy[1] || mayCopy[CALLS - 1]) ->
      if
      :: mayCopy[0] -> i = 0
      :: mayCopy[1] -> i = 1
#if CALLS > 2
      :: mayCopy[2] -> i = 2
#endif
      fi;
      copies--; mayCopy[i] = 0;
      printf("fault: a late copy of the claim of %d\n", i);
      claim(i, answer);
      assert(!(answer == CLAIMED && gaveBack == i));  /* a key that was given back is not taken again by a copy */
      if :: answer == CLAIMED -> gaveBack = NOBODY :: else fi;
      i = 0 }
  :: atomic { copies > 0 && (mayCopyBegin[0] || mayCopyBegin[1] || mayCopyBegin[CALLS - 1]) ->
      if
      :: mayCopyBegin[0] -> i = 0
      :: mayCopyBegin[1] -> i = 1
#if CALLS > 2
      :: mayCopyBegin[2] -> i = 2
#endif
      fi;
      copies--; mayCopyBegin[i] = 0;
      printf("fault: a late copy of the begin of the step by %d\n", i);
      keepStep(i, 1, 1, answer);
      i = 0 }
  od
}

proctype Call(byte i) {
  byte w;
  mtype answer = NONE, entry = NONE;
  bit goesOn, wasFinished, sawInterrupted;

  do
  :: atomic {
      mayCopy[i] = 1;
      claim(i, answer);
      if :: answer == CLAIMED -> gaveBack = NOBODY :: else fi;
      goesOn = hasTrace && answer == CLAIMED; wasFinished = isFinished;
      if
      /* Sent again; what was on its way may arrive later. */
      :: lost > 0 -> lost--; printf("fault: the answer to %d is lost\n", i)
      :: answer == CLAIMED -> break
      :: answer == BUSY ->
        assert(token != i);                           /* told wrongly that another one runs */
        goto over
      :: answer == TOO_LATE -> goto over
      :: answer == REPLAY -> tellResult(token); goto over
      :: answer == HELD -> goto over
      fi }
  od;
#if defined(HOLD) || defined(RUN)
  if
  :: atomic { goesOn -> entry = (step == UNDONE -> NONE : step); sawInterrupted = isInterrupted }
  :: !goesOn
  :: kill()
  fi;
  if
  :: entry == ENDED -> goto tail
#ifdef HOLD
  :: entry == BEGUN ->
    atomic {
      assert(sawInterrupted);                         /* told wrongly that an operator has to look */
      complete(i, HELD, answer); goto over }
  :: entry == NONE ->
#ifndef NO_RULE_BEGIN_MARK
    atomic {
      mayCopyBegin[i] = 1; keepStep(i, 1, 1, answer);
      if :: answer != KEPT -> goto over :: else -> isInterrupted = 1 fi
    };
#endif
    /* By the process's own clock, before the work begins. */
    if
    :: atomic { isOver[i] -> isInterrupted = 0;
#ifndef NO_RULE_TAKE_BACK
        unmark(i)
#endif
      }; goto fails
    :: !isOver[i]
    :: kill()
    fi;
#else
  :: entry != ENDED ->
    if :: isOver[i] -> goto over :: !isOver[i] :: kill() fi;
#endif
  fi;
  /* The work; the process may stand still before it. */
  if
  :: atomic { true -> works++; printf("%d does the work of the step\n", i);
#ifdef HOLD
      assert(works <= 1)                              /* never twice */
#else
      assert(!wasFinished)                            /* a finished step is not repeated */
#endif
    }
  :: atomic { true -> printf("the work of %d says that nothing was done\n", i);
#ifdef HOLD
      isInterrupted = 0; unmark(i)
#endif
    }; goto fails
  :: kill()
  fi;
  atomic {
    keepStep(i, 0, !isOver[i], answer);
    if :: answer != KEPT -> goto over :: else -> isInterrupted = 0 fi
  };
tail:
#endif
#ifdef COMMIT
  atomic {
#ifndef NO_RULE_WATCH_RECORD
    watches[i] = 1; dirty[i] = 0;
#endif
#ifndef NO_RULE_VERIFY
    if :: token == i && (state == RUNNING || state == LASTING) :: else -> watches[i] = 0; goto over fi;
#endif
    printf("Redis: WATCH of %d; record %e of %d\n", i, state, token)
  };
  atomic {
    if
    :: dirty[i] -> watches[i] = 0; dirty[i] = 0; printf("Redis: EXEC of %d: refused; record %e of %d\n", i, state, token); goto over
    :: else ->
      watches[i] = 0;
      effects++;
      write(COMMITTED, i); alive = 1;
      printf("Redis: EXEC of %d: done, effects and record; record %e of %d\n", i, state, token);
      assert(effects <= 1)                            /* never twice */
    fi
  };
#endif
  if
  :: kill()
  :: atomic { complete(i, DONE, answer);
      if :: answer == COMPLETED -> tellResult(i) :: else fi }; goto over
  :: goto fails
  fi;
fails:
  atomic { release(i, answer); 
    if
#ifdef COMMIT
    /* Told that it failed, while its effects stand: only where the record says so too. */
    :: answer == RELEASED -> assert(effects == 0 || token != i)
#endif
    :: true
    fi };
over:
  atomic { watches[i] = 0; answer = NONE; entry = NONE; goesOn = 0; wasFinished = 0; sawInterrupted = 0 }
}

init {
  atomic {
    run Faults();
    run Call(0); run Call(1);
#if CALLS > 2
    run Call(2)
#endif
  }
}
