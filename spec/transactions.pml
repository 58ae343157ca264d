/*
 * Model 1: the commit marker of transactions, with groups, hand-over and the deadline key.
 * docs/proofs.md explains it. Modelled: lib/transactions.
 *
 * Two callers increment one key of the user. Each WATCHes, reads, and sends MULTI…EXEC over a
 * connection that has a marker M and a deadline key D of its own. The second may join the group of
 * the first, or begin behind its EXEC on the same connection.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef TRIES_0
#define TRIES_0 2
#endif
#ifndef TRIES_1
#define TRIES_1 2
#endif
#define TRIES_OF(who) (who == 0 -> TRIES_0 : TRIES_1)
#ifndef FOREIGN
#define FOREIGN 1
#endif
#ifndef EVICTIONS
#define EVICTIONS 1
#endif
#define CONNECTIONS (LOSSES + 1)

/* Values of a marker; a greater one is the number of an attempt. */
#define ABSENT 0
#define ARMED 1
#define TOMBSTONE 2
#define FIRST_ATTEMPT 3

mtype = { WATCH, EXEC, OK, NIL, NONE, APPLIED, NOT_APPLIED, UNKNOWN };

/* Redis. */
byte value;
byte marker[CONNECTIONS];
bit hasD[CONNECTIONS];        /* D exists */
byte setOfD[CONNECTIONS];     /* the SET that it comes from */
bit watches[CONNECTIONS];
bit watchesD[CONNECTIONS];    /* D existed at WATCH */
bit dirty[CONNECTIONS];

/* The network. What was sent before a loss may arrive after it, in order, or never. */
chan requests[CONNECTIONS] = [3] of { mtype, byte, byte, byte };
chan answers[CONNECTIONS] = [3] of { mtype, byte, byte };
bit isLost[CONNECTIONS];

/* The process of the two callers. */
byte current;                 /* the connection in use */
bit isLent[CONNECTIONS];
bit isArmed[CONNECTIONS];     /* the process takes the marker for armed */
byte attempts[CONNECTIONS];
byte sets[CONNECTIONS];       /* of D, as they were sent */
bit lives[CONNECTIONS];       /* the last D set lives, by the clock */
mtype groupAnswer = NONE;     /* to the group's EXEC, for its follower */
bit isOffered; byte offeredValue; byte offeredConnection;
bit hasJoined; bit hasFlushed; byte flushedAttempt;
byte relies[2];               /* connection + 1 and SET of the D that ends before the deadline */
byte reliesOnSet[2];

/* What became of each. */
byte applied[2];
mtype told[2];

byte losses = LOSSES;
byte foreign = FOREIGN;
byte evictions = EVICTIONS;
byte repliesLost = 1;         /* of the resolver */

inline tell(who, what) {
  d_step {
    printf("caller %d is told %e\n", who, what);
    assert(told[who] == NONE);
    assert(what != APPLIED || applied[who] == 1);      /* never told wrongly: applied */
    assert(what != NOT_APPLIED || applied[who] == 0);  /* never told wrongly: not applied */
    told[who] = what;
  }
}

inline touch(c) { if :: watches[c] -> dirty[c] = 1 :: else fi }

/* All watch the user's key. */
inline touchOthers(c) {
#ifndef NO_RULE_WATCH_KEYS
  for (i : 0 .. CONNECTIONS - 1) { if :: watches[i] && i != c -> dirty[i] = 1 :: else fi }
  i = 0
#else
  skip
#endif
}

inline apply(who) {
  if
  :: (members & (1 << who)) ->
    assert(applied[who] == 0);      /* never twice */
    assert(told[who] == NONE);      /* nothing takes effect after its caller was told */
    applied[who] = 1
  :: else
  fi
}

/* Deadlines are not events of their own: a caller may find its own over wherever it looks, unless the
 * deadline key that ends before it lives. */
#ifdef TRACE
#define LOSES_WATCH 0
#else
#define LOSES_WATCH 1
#endif
#ifdef TRACE    /* Simulations at random would else end at once. */
#define isOver (relies[me] > 0 && !lives[relies[me] - 1])
#else
#define isOver (relies[me] == 0 || setOfD[relies[me] - 1] != reliesOnSet[me] || !lives[relies[me] - 1])
#endif

proctype Redis(byte c) {
  byte a, n, x, members, i;
end:
  do
  :: atomic { requests[c] ? WATCH, a, n, x ->
    /* a: sets D; n: number of that SET; x: caller, + 16 to arm the marker first. */
      if
      :: a -> hasD[c] = 1; setOfD[c] = n; lives[c] = 1
#ifdef NO_RULE_TWO_KEYS
        ; marker[c] = ARMED; touch(c)
#endif
      :: else
      fi;
      if :: x >= 16 -> marker[c] = ARMED :: else fi
    }
    atomic {
      watches[c] = 1; dirty[c] = 0; watchesD[c] = hasD[c];
      printf("Redis, connection %d: WATCH of caller %d, sets D %d, arms M %d: value %d, M %d, D %d\n", c, x % 16, a, x / 16, value, marker[c], hasD[c]);
      if :: !isLost[c] -> answers[c] ! WATCH, x % 16, value :: else fi;
      a = 0; n = 0; x = 0
    }
  :: atomic { requests[c] ? EXEC, n, members, x ->
      if
      :: dirty[c] -> a = 0; printf("Redis, connection %d: EXEC %d of members %d: refused; value %d, M %d\n", c, n, members, value, marker[c])
      :: else ->
        a = 1;
        printf("Redis, connection %d: EXEC %d of members %d: done; value %d, M %d\n", c, n, members, value + (members & 1) + (members >> 1), n);
        apply(0); apply(1);
#ifndef NO_RULE_WAIT_FOR_WATCH
        /* A lost update otherwise. */
        assert(x == value + (members & 1) + (members >> 1));
#endif
        value = value + (members & 1) + (members >> 1);
#ifdef NO_RULE_NUMBERED
        marker[c] = FIRST_ATTEMPT;
#else
        marker[c] = n;
#endif
        touchOthers(c)
      fi;
      watches[c] = 0; watchesD[c] = 0; dirty[c] = 0;
      if
      :: isLost[c]
      :: !isLost[c] && a -> answers[c] ! OK, n, 0
      :: !isLost[c] && !a -> answers[c] ! NIL, n, 0
      fi;
      a = 0; n = 0; x = 0; members = 0
    }
  od
}


inline expireD(c) {
  lives[c] = 0; hasD[c] = 0;
#ifndef NO_RULE_DEADLINE_KEY
  if :: watchesD[c] -> touch(c) :: else fi;
#endif
  printf("the deadline key of connection %d expires\n", c)
}

/* Faults matter only while a caller waits, and the end of a key while something depends on it. */
#define isOpen (told[0] == NONE || told[1] == NONE)
#define usesD(c) (c == current || watchesD[c] || relies[0] == c + 1 || relies[1] == c + 1)

proctype Faults() {
  byte i;
end:
  do
#ifdef TRACE
  :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true
#endif
  /* D expires; a watched key that lived at WATCH aborts EXEC by that. */
  :: d_step { isOpen && usesD(0) && lives[0] -> expireD(0) }
  :: d_step { isOpen && usesD(1) && lives[1] -> expireD(1) }
#if LOSSES > 1
  :: d_step { isOpen && usesD(2) && lives[2] -> expireD(2) }
#endif
  :: d_step { isOpen && foreign > 0 -> foreign--; value++; touchOthers(255);
      printf("another client increments the key\n") }
  /* Redis loses the keys of the library, as by an eviction or a flush. */
  :: d_step { isOpen && evictions > 0 && (marker[current] != ABSENT) -> evictions--; marker[current] = ABSENT;
#ifndef NO_RULE_WATCH_MARKER
      touch(current);
#endif
      printf("fault: the marker of connection %d is evicted\n", current) }
#ifdef EVICT_D
  :: d_step { isOpen && evictions > 0 && hasD[current] -> evictions--; hasD[current] = 0;
      if :: watchesD[current] -> touch(current) :: else fi;
      printf("fault: the deadline key of connection %d is evicted\n", current) }
#endif
  od
}

/* Decides the outcome of the EXEC `n` of connection `c`; may be sent twice. */
inline resolve(c, n, found) {
  d_step {
    if
    :: marker[c] == n -> found = APPLIED
#ifdef NO_RULE_NUMBERED
    :: marker[c] != n && marker[c] == FIRST_ATTEMPT -> found = APPLIED
#endif
    :: else ->
      if
      :: marker[c] == TOMBSTONE -> found = UNKNOWN
      :: marker[c] == ABSENT ->
#ifdef NO_RULE_ABSENT_UNKNOWN
        found = NOT_APPLIED
#else
        found = UNKNOWN;
#ifndef NO_RULE_TOMBSTONE
        marker[c] = TOMBSTONE; touch(c)
#endif
#endif
      :: else ->
        found = NOT_APPLIED;
#if !defined(NO_RULE_TOUCH) && !defined(NO_RULE_WATCH_MARKER)
        touch(c)
#endif
      fi
    fi;
    printf("resolver: EXEC %d of connection %d: M %d: %e\n", n, c, marker[c], found)
  }
}

inline forget() { relies[me] = 0; reliesOnSet[me] = 0; n = 0; base = 0; c = 0 }

/* Also where it is the process that gives up a connection which does not answer. */
inline lose(c) {
  if
  :: !isLost[c] -> losses--; isLost[c] = 1;
    printf("fault: connection %d is lost; what was sent may arrive yet, or never\n", c)
  :: else
  fi
}

inline heard(answer) { if :: n == flushedAttempt && c == offeredConnection -> groupAnswer = answer :: else fi }

proctype Caller(byte me) {
  byte c, base, n, tries;
  mtype found = NONE;

again:
  atomic {
    forget();
    if
    :: tries == TRIES_OF(me) || isOver -> tell(me, NOT_APPLIED); goto done
    /* Takes part in the other one's turn. */
    :: tries < TRIES_OF(me) && isOffered && me == 1 ->
      tries++; hasJoined = 1; c = offeredConnection; isOffered = 0;
#ifndef NO_RULE_JOIN_BY_DEADLINE
      relies[me] = c + 1; reliesOnSet[me] = sets[c];
#endif
      printf("caller %d joins the group of the other\n", me);
      goto followed
    /* WATCH and the reads in one write. The deadline key is used again where it surely lives. */
    :: tries < TRIES_OF(me) && !isOffered && !isLent[current] && (!isLost[current] || current < CONNECTIONS - 1) ->
      tries++;
      if :: isLost[current] -> current++ :: else fi;
      c = current; isLent[c] = 1;
      if
      :: sets[c]++; requests[c] ! WATCH(1, sets[c], me + (isArmed[c] -> 0 : 16))
      :: lives[c] && setOfD[c] == sets[c] && sets[c] > 0 -> requests[c] ! WATCH(0, sets[c], me + (isArmed[c] -> 0 : 16))
      fi;
      isArmed[c] = 1
    fi
  };
#ifdef NO_RULE_WAIT_FOR_WATCH
  goto send;
#endif
  atomic {
    if
    :: answers[c] ? WATCH, eval(me), base
    :: isLost[c] || (losses > 0 && LOSES_WATCH) -> lose(c); isLent[c] = 0; goto again
    :: isOver -> isLost[c] = 1; isLent[c] = 0; tell(me, NOT_APPLIED); goto done
    fi;
    /* Answered in time: D lives, and ends before the deadline. */
    if
#ifndef NO_RULE_ALIVE_AT_WATCH
    :: !lives[c] -> isLent[c] = 0; goto again
    :: lives[c]
#else
    :: true
#endif
    fi;
#ifndef NO_RULE_ENDS_BEFORE_DEADLINE
    relies[me] = c + 1; reliesOnSet[me] = sets[c];
#endif
    /* Lets the other one follow, for one turn of the event loop. */
    if
    :: me == 0 && told[1] == NONE && !hasFlushed -> isOffered = 1; offeredConnection = c;
#ifdef NO_RULE_CERTAIN_READ
      offeredValue = base
#else
      offeredValue = base + 1
#endif
    :: goto send
    fi
  };

send:
  atomic {
    isOffered = 0; isLent[c] = 0;
    if
    :: isLost[c] ->
      if :: hasJoined && !hasFlushed && me == 0 -> hasFlushed = 1 :: else fi;
      goto again
    :: else
    fi;
    n = FIRST_ATTEMPT + attempts[c]; attempts[c]++;
    /* Handed on: what the next one sends comes behind this EXEC. */
    if
    :: hasJoined && !hasFlushed && me == 0 ->
      hasFlushed = 1; flushedAttempt = n;
      requests[c] ! EXEC(n, 3, offeredValue + 1);
      printf("caller 0 sends EXEC %d for both on connection %d\n", n, c)
    :: else ->
      requests[c] ! EXEC(n, 1 << me, base + 1);
      printf("caller %d sends EXEC %d on connection %d\n", me, n, c)
    fi;
    base = 0
  };
#ifdef NO_RULE_WAIT_FOR_WATCH
  atomic {
    if
    :: answers[c] ? WATCH, eval(me), _
    :: isLost[c] || losses > 0 -> lose(c); goto lost
    fi
  };
#endif
  atomic {
    if
    :: answers[c] ? OK, eval(n), _ -> heard(OK); tell(me, APPLIED); goto done
    :: answers[c] ? NIL, eval(n), _ -> heard(NIL); goto again
    :: isLost[c] || losses > 0 -> lose(c); goto lost
    fi
  };

followed:
  atomic {
    if
    :: hasFlushed && flushedAttempt == 0 -> goto again
    :: hasFlushed && groupAnswer == OK -> tell(me, APPLIED); goto done
    :: hasFlushed && groupAnswer == NIL -> goto again
    :: flushedAttempt > 0 && groupAnswer == NONE && (isLost[c] || losses > 0) -> n = flushedAttempt; lose(c)
    fi
  };

lost:
  /* From another connection, unless the deadline passes before that is answered. */
  do
  :: atomic {
      resolve(c, n, found);
      if
      :: repliesLost > 0 -> repliesLost--; found = NONE; printf("fault: the resolver's reply is lost\n")
      :: found == NOT_APPLIED -> found = NONE; goto again
      :: found != NOT_APPLIED -> tell(me, found); goto done
      fi
    }
  :: atomic { isOver -> tell(me, UNKNOWN); goto done }
  od;
done:
  atomic { forget(); tries = 0; found = NONE }
}

init {
  atomic {
    told[0] = NONE; told[1] = NONE;
    run Redis(0); run Redis(1);
#if LOSSES > 1
    run Redis(2);
#endif
   
    run Faults();
    run Caller(0); run Caller(1)
  }
}
