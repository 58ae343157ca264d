/*
 * Model 6: a transfer across slots, its steps, and its recovery by another process.
 * docs/proofs.md explains it. Modelled: lib/transfers/across-slots.
 *
 * A caller moves 1 from a balance to another one, on another server. Processes that recover may do
 * the same steps at any time. A process may stop anywhere.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifndef WORKERS
#define WORKERS 3     /* the caller, and those that recover */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LOST
#define LOST 1        /* answers that are lost */
#endif
#ifndef LATE
#define LATE 1        /* requests that arrive late */
#endif
#ifndef TURNS
#define TURNS 2       /* of each process that recovers */
#endif

mtype = { ABSENT, OPEN, CREDITED, REFUNDED };           /* the intent */
mtype = { NONE, PAID, REFUSED, IS_LATE, IS_GONE };      /* the decision */
mtype = { BEGIN, DECIDE, CLOSE, EXPIRE, FORGET };
mtype = { MOVED, BACK, PENDING, NOTHING };              /* what a caller is told */

/* The source's slot. */
byte from = 1;
mtype intent = ABSENT;
bit hasMarker;                /* of the first step */
/* The target's slot. */
byte to;
bit isFull;                   /* the amount does not fit at present */
mtype decision = NONE;
bit expires;

/* One request that is still under way. */
mtype late = NONE; mtype lateDecision = NONE; byte lateWho;

byte mayDecide[WORKERS];      /* its question is good yet: 2 where the clock was read before the transfer was closed */
byte lateMayDecide;           /* the same of a late one */
bit isRefunded, isPaid;
mtype told = NONE;
bit isBegun;

byte kills = KILLS, lost = LOST, lates = LATE, fulls = 1;

/* The money is in one of the balances, or under way. */
#define isUnderWay (intent == OPEN && !isPaid)

inline check() {
  assert(from + to + (isUnderWay -> 1 : 0) == 1)    /* neither lost nor made */
}

inline begin() {
  d_step {
    if
#ifndef NO_RULE_FIRST_MARKER
    :: hasMarker
    :: !hasMarker ->
#else
    :: true ->
#endif
      assert(from == 1);                            /* taken once */
      assert(told == NONE);
      hasMarker = 1; from = 0; intent = OPEN; isBegun = 1
    fi;
    printf("Redis: begin: from %d, to %d, intent %e, decision %e\n", from, to, intent, decision);
    check()
  }
}

inline decide(w, isInTime) {
  d_step {
    if
#ifndef NO_RULE_DECIDES_ONCE
    :: decision != NONE -> answer = decision
    :: decision == NONE ->
#else
    :: true ->
#endif
      if
#ifndef NO_RULE_QUESTION_EXPIRES
      :: !isInTime -> answer = IS_LATE
      :: isInTime ->
#else
      :: true ->
#endif
        if
        :: isFull -> decision = REFUSED
        :: !isFull ->
          decision = PAID; to++; isPaid = 1
        fi;
        expires = 0; answer = decision
      fi
    fi;
    printf("Redis: decision asked for by %d, in time %d, full %d: %e: from %d, to %d, intent %e, decision %e\n", w, isInTime, isFull, answer, from, to, intent, decision);
    check()
  }
}

inline close(as) {
  d_step {
    if
    :: intent == ABSENT -> answer = IS_GONE
#ifndef NO_RULE_CLOSES_ONCE
    :: intent == CREDITED || intent == REFUNDED -> answer = (intent == CREDITED -> PAID : REFUSED)
    :: intent == OPEN ->
#else
    :: intent != ABSENT ->
#endif
      answer = as;
      if
      :: as == PAID -> intent = CREDITED
      :: as == REFUSED -> intent = REFUNDED; from++
      fi
    fi;
    printf("Redis: close as %e: %e: from %d, to %d, intent %e, decision %e\n", as, answer, from, to, intent, decision);
    check()
  }
}

inline expire() {
  d_step {
    if :: decision != NONE -> expires = 1 :: else fi;
    printf("Redis: expiry of the decision: from %d, to %d, intent %e, decision %e\n", from, to, intent, decision)
  }
}

inline forget() {
  d_step {
    if
    :: intent == OPEN
    :: else -> intent = ABSENT
    fi;
    printf("Redis: forget: from %d, to %d, intent %e, decision %e\n", from, to, intent, decision);
    check()
  }
}

/* A decision is kept for as long as a question may come of one that has seen the transfer open. */
#ifdef NO_RULE_DECISION_KEPT
#define mayForget expires
#else
#define mayForget (expires && mayDecide[0] < 2 && mayDecide[1] < 2 && mayDecide[WORKERS - 1] < 2 && lateMayDecide < 2)
#endif

inline questionPasses(w) {
  mayDecide[w] = 0;
  if :: late == DECIDE && lateWho == w -> lateMayDecide = 0 :: else fi
}

#define isOpenYet (intent == OPEN || !isBegun)
inline readClock(w) { mayDecide[w] = (isOpenYet -> 2 : 1) }

proctype Faults() {
  mtype answer = NONE;
end:
  do
#ifdef TRACE
  :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true
#endif
  :: atomic { late != NONE ->
      printf("fault: a late request of %d\n", lateWho);
      if
      :: late == BEGIN -> begin()
      :: late == DECIDE -> decide(lateWho, lateMayDecide > 0)
      :: late == CLOSE -> close(lateDecision)
      :: late == EXPIRE -> expire()
      :: late == FORGET -> forget()
      fi;
      late = NONE; lateDecision = NONE; lateWho = 0; lateMayDecide = 0; answer = NONE }
  /* The time of a question passes. */
  :: atomic { mayDecide[0] > 0 -> questionPasses(0); printf("the question of 0 is good no more\n") }
  :: atomic { mayDecide[1] > 0 -> questionPasses(1); printf("the question of 1 is good no more\n") }
#if WORKERS > 2
  :: atomic { mayDecide[2] > 0 -> questionPasses(2); printf("the question of 2 is good no more\n") }
#endif
  :: d_step { decision != NONE && mayForget -> decision = NONE; expires = 0; printf("the decision expires\n") }
  /* Others change the target. */
  :: d_step { fulls > 0 && !isPaid -> fulls--; isFull = !isFull; printf("the amount fits: %d\n", !isFull) }
  od
}

inline isUnder(step, d) { lates--; late = step; if :: step == DECIDE -> lateMayDecide = mayDecide[i] :: else fi; lateDecision = d; lateWho = i; printf("fault: a request of %d is under way\n", i) }

inline dies() { printf("fault: %d is killed\n", i); goto dead }

inline tell(what) {
  told = what;
  printf("the caller is told %e\n", what);
  assert(what != MOVED || to == 1);                         /* never told wrongly */
  assert(what != BACK || (from == 1 && !isPaid));
  assert(what != NOTHING || !isBegun)
}

proctype Worker(byte i) {
  mtype answer = NONE, decided = NONE;
  byte turns;

  if
  :: i == 0 -> goto begins
  :: i != 0
  fi;

recovers:
  /* The clock of the target is read before the intent. */
  atomic {
    answer = NONE; decided = NONE;
    if
    :: turns == TURNS || (told != NONE && intent == ABSENT && !isBegun) -> goto dead
    :: turns < TURNS && intent != ABSENT -> turns++;
#ifndef NO_RULE_CLOCK_FIRST
      readClock(i); goto reads
#else
      goto reads
#endif
    :: turns < TURNS && isBegun && intent == ABSENT -> goto dead
    fi
  };
reads:
  atomic {
    printf("%d reads the intent: %e\n", i, intent);
    if
    :: intent == ABSENT -> goto recovers
    :: intent == OPEN -> goto decides
    :: intent == CREDITED || intent == REFUNDED -> goto tidies
    fi
  };

begins:
  atomic { readClock(0) };
  do
  :: atomic { begin();
      if
      :: lost > 0 -> lost--; printf("fault: the answer to 0 is lost\n")
      :: goto decides
      /* Known by no answer: pending. */
      :: lost > 0 -> lost--; printf("fault: the answer to 0 is lost\n"); tell(PENDING); goto dead
      fi }
  :: atomic { lates > 0 -> isUnder(BEGIN, NONE) }
  od;

decides:
#ifdef NO_RULE_CLOCK_FIRST
  atomic { readClock(i) };
#endif
  do
  :: atomic { decide(i, mayDecide[i] > 0);
      if
      :: goto decidedOn
      :: lost > 0 -> lost--; printf("fault: the answer to %d is lost\n", i)
      fi }
  :: atomic { lates > 0 -> isUnder(DECIDE, NONE) }
  :: atomic { kills > 0 -> kills--; dies() }
  od;
decidedOn:
  atomic {
    if
    :: answer == IS_LATE ->
      if :: i == 0 -> tell(PENDING); goto dead :: i != 0 -> goto recovers fi
    :: answer != IS_LATE -> decided = answer; answer = NONE
    fi;
    if
    /* The money has arrived, whatever becomes of the rest. */
    :: i == 0 && decided == PAID -> tell(MOVED)
    :: i != 0 || decided != PAID
    fi
  };
#ifdef NO_RULE_CLOSE_BEFORE_EXPIRY
  atomic { expire() };
#endif
  do
  :: atomic { close(decided);
      if
      :: break
      :: lost > 0 -> lost--; printf("fault: the answer to %d is lost\n", i)
      fi }
  :: atomic { lates > 0 -> isUnder(CLOSE, decided) }
  :: atomic { kills > 0 -> kills--; dies() }
  od;
  atomic { if :: i == 0 && decided == REFUSED -> tell(BACK) :: else fi };
tidies:
  do
  :: atomic { expire(); break }
  :: atomic { lates > 0 -> isUnder(EXPIRE, NONE) }
  :: atomic { kills > 0 -> kills--; dies() }
  od;
  do
  :: atomic { forget(); break }
  :: atomic { lates > 0 -> isUnder(FORGET, NONE) }
  :: atomic { kills > 0 -> kills--; dies() }
  od;
  if
  :: i == 0 -> goto dead
  :: i != 0 -> goto recovers
  fi;
dead:
  atomic { answer = NONE; decided = NONE; turns = 0 }
}

init {
  atomic {
    if :: isFull = 1; printf("the amount fits: 0\n") :: true fi;
    run Faults(); run Worker(0); run Worker(1);
#if WORKERS > 2
    run Worker(2)
#endif
  }
}
