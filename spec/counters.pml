/*
 * Model 5: the batches of counters, with lanes, numbers and states.
 * docs/proofs.md explains it. Modelled: lib/pipelines, lib/scripting/script-runner, and
 * lib/counters/apply.script.
 *
 * CALLS callers each add 1 to one counter, which has an upper bound. Their commands travel in batches
 * of up to two over the lanes of a producer. With LANES the first two calls have lanes of their own,
 * and the third is made by another process.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifndef CALLS
#define CALLS 3
#endif
#ifndef LOST
#define LOST 1        /* answers that are lost */
#endif
#ifndef LATE
#define LATE 1        /* batches that arrive late */
#endif
#ifndef REFUSALS
#define REFUSALS 1    /* by a server that is not ready */
#endif
#ifndef FULL
#define FULL 0        /* refusals for good, of a full memory */
#endif
#ifndef STEPS
#define STEPS 0       /* of Redis's clock: a batch seems late that is not */
#endif
#ifndef FOREIGN
#define FOREIGN 1     /* what another client takes away */
#endif
#ifndef BOUND
#define BOUND 2
#endif

#ifdef LANES
#define laneOf(c) (c)
#define producerOf(l) (l == 2)
#define LANE_COUNT 3
#else
#define laneOf(c) 0
#define producerOf(l) 0
#define LANE_COUNT 1
#endif
#ifdef NO_RULE_LANE_STATE
#define stateOf(l) producerOf(l)
#else
#ifdef NO_RULE_OWN_ID
#define stateOf(l) (l == 2 -> 0 : l)
#else
#define stateOf(l) l
#endif
#endif
#define bitOf(c) (1 << (c))

mtype = { NONE, APPLIED, LIMITED, NOT_APPLIED, UNKNOWN };    /* what a caller is told */
mtype = { ANSWERED, STALE, TOO_LATE, REFUSED, PASSED };

/* Redis: the counter, and the state of each lane. */
byte value;
byte storedNumber[LANE_COUNT], storedBatch[LANE_COUNT];
mtype stored[CALLS];          /* the answer to each command of the last batch of its lane */

/* One batch that is still under way, though it was sent again. */
bit isLate; byte lateLane, lateNumber, lateBatch;

/* The processes. */
byte sequence[2];
byte under[LANE_COUNT];       /* commands of a lane that are in a batch */
byte sent;                    /* commands that were sent with the state of lane 0 */

/* What is so. */
byte over;                    /* calls whose time has passed */
byte applied;
mtype told[CALLS];
bit isInOrder = 1;

byte lost = LOST, late = LATE, refusals = REFUSALS, fulls = FULL, steps = STEPS, foreign = FOREIGN;

inline tell(c, what) {
  told[c] = what;
  printf("caller %d is told %e\n", c, what);
  assert(what != APPLIED || (applied & bitOf(c)));                                   /* never told wrongly */
  assert((what != NOT_APPLIED && what != LIMITED) || !(applied & bitOf(c)))
}

/* early: those that seem late by a clock that was stepped. */
inline apply(l, n, b, early) {
  d_step {
    if
#ifndef NO_RULE_STALE
    :: storedNumber[stateOf(l)] > n -> answer = STALE
#endif
#ifndef NO_RULE_SAME_ANSWER
    :: storedNumber[stateOf(l)] == n ->
      answer = ANSWERED;
      for (c : 0 .. CALLS - 1) { if :: b & bitOf(c) -> heard[c] = (storedBatch[stateOf(l)] & b -> stored[c] : APPLIED) :: else fi }
#endif
    :: else ->
      if
#ifndef NO_RULE_TIME_LIMIT
      :: (b & ~(over | early)) == 0 -> answer = TOO_LATE
      :: (b & ~(over | early)) != 0 ->
#else
      :: true ->
#endif
        answer = ANSWERED; isAnyApplied = 0;
        for (c : 0 .. CALLS - 1) {
          if
          :: b & bitOf(c) ->
            if
#ifndef NO_RULE_OWN_LIMIT
            :: (over | early) & bitOf(c) -> heard[c] = TOO_LATE
            :: !((over | early) & bitOf(c)) && value >= BOUND -> heard[c] = LIMITED
            :: !((over | early) & bitOf(c)) && value < BOUND ->
#else
            :: value >= BOUND -> heard[c] = LIMITED
            :: value < BOUND ->
#endif
              assert(!(applied & bitOf(c)));          /* never twice */
              assert(told[c] == NONE);                /* nothing takes effect after its caller was told */
              for (d : c + 1 .. CALLS - 1) { assert(laneOf(c) != laneOf(d) || !(applied & bitOf(d))) }    /* in the order of the calls */
              d = 0;
              value++; applied = applied | bitOf(c); heard[c] = APPLIED; isAnyApplied = 1
            fi
          :: else
          fi
        }
#ifdef NO_RULE_REFUSALS_KEPT
        if
        :: isAnyApplied ->
#else
        if
        :: true ->
#endif
          storedNumber[stateOf(l)] = n; storedBatch[stateOf(l)] = b;
          for (c : 0 .. CALLS - 1) { if :: b & bitOf(c) -> stored[c] = heard[c] :: else fi }
        :: else
        fi
      fi
    fi;
    c = 0; isAnyApplied = 0;
    printf("Redis: batch %d of lane %d, commands %d, over %d: %e", n, l, b, over | early, answer);
    for (c : 0 .. CALLS - 1) { if :: (b & bitOf(c)) && answer == ANSWERED -> printf(" %d %e", c, heard[c]) :: else fi }
    c = 0;
    printf("; value %d\n", value)
  }
}

#define isOpen(c) (told[c] == NONE && !(over & bitOf(c)))

#ifdef NO_RULE_STATE_OUTLIVES
#define mayExpire 1
#else
#ifdef NO_RULE_OUTLIVES_EARLIER
#define mayExpire ((storedBatch[0] & ~over) == 0)
#else
#define mayExpire ((sent & ~over) == 0)
#endif
#endif

proctype Faults() {
  byte c, d;
  bit isAnyApplied;
  mtype answer, heard[CALLS];
end:
  do
#ifdef TRACE
  :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true
#endif
  :: atomic { isLate ->
      printf("fault: a late batch of lane %d\n", lateLane);
      apply(lateLane, lateNumber, lateBatch, 0);
      for (c : 0 .. CALLS - 1) { heard[c] = 0 }
      c = 0; isLate = 0; lateLane = 0; lateNumber = 0; lateBatch = 0; answer = NONE }
  /* The time of a call passes: by its process's clock, and by Redis's, in which its limit is. */
  :: atomic { isOpen(0) -> over = over | 1; printf("the time of call 0 passes\n") }
  :: atomic { isOpen(1) -> over = over | 2; printf("the time of call 1 passes\n") }
#if CALLS > 2
  :: atomic { isOpen(2) -> over = over | 4; printf("the time of call 2 passes\n") }
#endif
  :: d_step { foreign > 0 && value > 0 -> foreign--; value--; printf("another client takes 1\n") }
  /* A state ends once no copy of its batch can do anything. */
  :: d_step { storedNumber[0] > 0 && mayExpire -> storedNumber[0] = 0; storedBatch[0] = 0; printf("the state of lane 0 expires\n") }
  od
}

inline tellOverdue() {
  for (c : 0 .. CALLS - 1) {
    if
    :: (b & over & bitOf(c)) && told[c] == NONE ->
#ifdef NO_RULE_MAY_BE_DONE
      tell(c, NOT_APPLIED)
#else
      tell(c, (mayBeDone -> UNKNOWN : NOT_APPLIED))
#endif
    :: else
    fi
  };
  c = 0
}

inline tellAll(what) {
  for (c : 0 .. CALLS - 1) { if :: (b & bitOf(c)) && told[c] == NONE -> tell(c, what) :: else fi };
  c = 0
}

#define isToDo(c) (laneOf(c) == l && told[c] == NONE && !(under[l] & bitOf(c)))
#define waits(c) (isToDo(c) && !(over & bitOf(c)))

proctype Lane(byte l) {
  byte c, d, b, n, early;
  bit mayBeDone, isUnanswered, isAnyApplied;
  mtype answer = NONE, heard[CALLS];

again:
  atomic {
    b = 0; n = 0; mayBeDone = 0; isUnanswered = 0; answer = NONE; early = 0;
    if
    :: isToDo(0) && (over & 1) -> tell(0, NOT_APPLIED); goto again
    :: isToDo(1) && (over & 2) -> tell(1, NOT_APPLIED); goto again
#if CALLS > 2
    :: isToDo(2) && (over & 4) -> tell(2, NOT_APPLIED); goto again
#endif
    /* The first one or two, in the order of the calls. */
    :: waits(0) -> b = 1;
      if :: waits(1) -> b = 3 :: true fi
    :: waits(1) && !waits(0) -> b = 2;
#if CALLS > 2
      if :: waits(2) -> b = 6 :: true fi
    :: waits(2) && !waits(0) && !waits(1) -> b = 4
#endif
    :: else -> goto done
    fi;
    under[l] = under[l] | b;
    if :: stateOf(l) == 0 -> sent = sent | b :: else fi;
#ifdef NO_RULE_NUMBERED
    sequence[producerOf(l)] = 1;
#else
    sequence[producerOf(l)]++;
#endif
    n = sequence[producerOf(l)]
  };
sending:
  do
  :: atomic { mayBeDone = 1; apply(l, n, b, 0);
      if
      :: goto answered
      :: lost > 0 -> lost--; isUnanswered = 1; answer = NONE; printf("fault: the answer to lane %d is lost\n", l);
        for (c : 0 .. CALLS - 1) { if :: b & bitOf(c) -> heard[c] = 0 :: else fi }
        c = 0
      fi }
  :: atomic { steps > 0 -> steps--; printf("fault: the clock steps, and the batch of lane %d seems late\n", l);
      mayBeDone = 1;
      /* All of it, or the first. */
      if
      :: early = b
      :: b == 3 -> early = 1
      :: b == 6 -> early = 2
      fi;
      apply(l, n, b, early); goto answered }
  :: atomic { late > 0 && !isLate -> late--; isLate = 1; lateLane = l; lateNumber = n; lateBatch = b;
      mayBeDone = 1; isUnanswered = 1; printf("fault: a batch of lane %d is under way\n", l) }
  /* The server is not ready: nothing was done, by this one. */
  :: atomic { refusals > 0 -> refusals--; mayBeDone = isUnanswered; printf("fault: lane %d is refused for now\n", l) }
#if FULL > 0
  :: atomic { fulls > 0 -> fulls--; printf("fault: lane %d is refused for good\n", l);
      mayBeDone = isUnanswered;
      if
      :: !isUnanswered -> tellAll(NOT_APPLIED); goto ended
#ifndef NO_RULE_WAIT_OUT
      :: isUnanswered -> answer = REFUSED; break
#else
      :: isUnanswered -> tellAll(UNKNOWN); goto ended
#endif
      fi }
#endif
  :: atomic { (b & over) != 0 && ((told[0] == NONE && (b & over & 1)) || (told[1] == NONE && (b & over & 2)) || (told[CALLS - 1] == NONE && (b & over & bitOf(CALLS - 1)))) ->
      tellOverdue() }
  :: atomic { (b & ~over) == 0 -> tellOverdue(); goto ended }
  od;
  /* What was sent before may come until its time limit. */
  atomic { (b & ~over) == 0 -> tellOverdue(); goto ended };
answered:
  atomic {
    assert(answer != STALE);                        /* no batch is overtaken */
    if
    :: answer == STALE -> tellAll(UNKNOWN)
    :: answer == TOO_LATE ->
      if
      :: (b & ~over) == 0 -> mayBeDone = isUnanswered; tellOverdue()
      /* The clock was stepped: read anew, and sent again. */
      :: (b & ~over) != 0 -> mayBeDone = isUnanswered; early = 0; answer = NONE; goto sending
      fi
    :: answer == ANSWERED ->
      for (c : 0 .. CALLS - 1) {
        if
        :: (b & bitOf(c)) && told[c] == NONE ->
          if
          :: heard[c] == TOO_LATE && (over & bitOf(c)) -> tell(c, NOT_APPLIED)
          /* Made now, it would come after another. */
#ifndef NO_RULE_NOT_OVERTAKEN
          :: heard[c] == TOO_LATE && !(over & bitOf(c)) && (b & ~(bitOf(c) - 1) & ~bitOf(c)) -> tell(c, NOT_APPLIED)
          :: heard[c] == TOO_LATE && !(over & bitOf(c)) && !(b & ~(bitOf(c) - 1) & ~bitOf(c))    /* sent again */
#else
          :: heard[c] == TOO_LATE && !(over & bitOf(c))
#endif
          :: heard[c] != TOO_LATE -> tell(c, heard[c])
          fi
        :: else
        fi;
        if :: b & bitOf(c) -> heard[c] = 0 :: else fi
      };
      c = 0
    fi
  };
ended:
  atomic { under[l] = under[l] & ~b; goto again };
done:
  skip
}

init {
  byte c;
  atomic {
    for (c : 0 .. CALLS - 1) { told[c] = NONE; stored[c] = NONE }
    c = 0;
    run Faults();
    run Lane(0);
#ifdef NO_RULE_ONE_BATCH
    run Lane(0);
#endif
#ifdef LANES
    run Lane(1); run Lane(2)
#endif
  }
}
