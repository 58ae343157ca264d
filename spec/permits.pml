/*
 * Model 4: a permit with its line, its lease, its fences, its rows, and what it enforces.
 * docs/proofs.md explains it. Modelled: lib/permits and lib/operations/enforced-script.
 *
 * CLAIMS callers want the one permit of a name. All but the last are of one process. Each takes the
 * permit or stands in line, works under it, and gives it back. One of them makes one enforced write,
 * by a script or by a transaction. With ROW the first has the permit, and two of its process wait.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifdef ROW
#define CLAIMS 4
#endif
#ifndef CLAIMS
#define CLAIMS 3
#endif
#ifndef LAPSES
#define LAPSES 2      /* of leases */
#endif
#ifndef LOST
#define LOST 1        /* answers that are lost */
#endif
#ifndef LATE
#define LATE 1        /* requests that arrive late */
#endif
#ifndef LEAVES
#define LEAVES 1      /* callers that wait no longer */
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef RENEWALS
#define RENEWALS 0
#endif
#ifndef FLUSHES
#define FLUSHES 0
#endif
#define NOBODY 9
#define NO_TOKEN 8     /* no slot has it */
#define isLast(t) (t == CLAIMS - 1)
#define areOfOneProcess(a, b) (!isLast(a) && !isLast(b))
#define bitOf(t) (1 << (t))

mtype = { NONE, GRANTED, WAITING, BUSY, HELD, LOOKS, RELEASED, LOST_IT, DONE };
mtype = { TAKE, LOOK, RELEASE, RENEW, WRITE, EXEC };

/* Redis: the slot, the state, the line. */
byte holder = NOBODY;         /* the token in the slot */
byte mark = NOBODY;           /* the token of the one that has given it back */
byte lease;                   /* its length: 0 for one that has to confirm, 1, or 2 for a transaction */
byte last;                    /* fence */
short lostFences;
byte line, ticket[CLAIMS];
byte noted;                   /* calls that were sent again */
mtype stored[CLAIMS];         /* the answer to a look that was sent again */
byte storedFence[CLAIMS];
byte clock = 1;
byte watcher = NOBODY; bit isTouched;
bit hasMarker;                /* of the write */

/* One request that is still under way, though its caller has sent it again or has given it up. */
mtype lateKind = NONE;
byte lateWho, lateToken, lateFence, lateLeft;
bit lateIsCopy, lateWaits, lateIsEarlier;
mtype lateStored = NONE; byte lateStoredFence;

/* The processes. */
bit isWaiting[CLAIMS];
bit hasGrant[CLAIMS]; byte grantOf[CLAIMS], grantFence[CLAIMS], grantLast[CLAIMS], grantNext[CLAIMS];

/* What is so. */
byte rightful = NOBODY;       /* the one whose turn it is */
byte counts[CLAIMS];          /* the length of lease that it counts on; its clock has not passed that */
short lapsed;                 /* fences whose lease has ended */
byte lostIt;                  /* those that had lost the permit before they gave it back */
byte works;                   /* those that were told that they have it */
byte gone;                    /* those that want it no more */
byte greatest, greatestTold;  /* fences */
bit toldNotWritten;

byte lapses = LAPSES, lost = LOST, late = LATE, leaves = LEAVES, writes = WRITES, renewals = RENEWALS, flushes = FLUSHES;

inline touch() { if :: watcher != NOBODY -> isTouched = 1 :: else fi }

inline showState() { printf("; slot %d, mark %d, lease %d, fence %d, line %d\n", holder, mark, lease, last, line) }

/* Each look has a marker of its own; a late request has that of its look. */
inline beginsToLook() {
  if
  :: lateKind == LOOK && lateWho == i && !lateIsEarlier -> lateIsEarlier = 1; lateStored = stored[i]; lateStoredFence = storedFence[i]
  :: else
  fi;
  stored[i] = NONE; storedFence[i] = 0;
  printf("%d begins to look\n", i)
}

/* aside: fences that are set aside for those behind it. */
inline occupy(t, length, aside) {
#ifndef NO_RULE_NOTE_LOST
  if :: holder == NOBODY && mark == NOBODY && last > 0 -> lostFences = lostFences | bitOf(last) :: else fi;
#endif
  last = (last + 1 > clock -> last + 1 : clock);
  assert(last > greatest);                          /* fences rise */
#ifndef NO_RULE_FENCES_ASIDE
  last = last + aside;
#endif
  greatest = last;
#if FLUSHES == 0
  assert(!(gone & bitOf(t)));                       /* nobody is given it that wants it no more */
#endif
  for (k : 0 .. CLAIMS - 1) { assert(counts[k] == 0) }   /* no two count on it */
  k = 0;
  holder = t; mark = NOBODY; lease = length;
  rightful = t;
  if :: (works & bitOf(t)) && FLUSHES == 0 :: else -> lostIt = lostIt & ~bitOf(t) fi;
  touch()
}

/* The first in line ahead of `before`, which is NOBODY for all. */
inline findFirst(before) {
  first = NOBODY;
  for (k : 0 .. CLAIMS - 1) {
    if
    :: (line & bitOf(k)) && k != before && (before == NOBODY || ticket[before] == 0 || ticket[k] < ticket[before]) && (first == NOBODY || ticket[k] < ticket[first]) -> first = k
    :: else
    fi
  }
  k = 0
}

inline take(t, isCopy) {
  d_step {
    if
    :: !isCopy && holder != NOBODY && holder != t -> answer = HELD
#ifndef NO_RULE_NOTE_COPIES
    :: !(!isCopy && holder != NOBODY && holder != t) && (noted & bitOf(t)) -> answer = LOOKS
    :: !(!isCopy && holder != NOBODY && holder != t) && !(noted & bitOf(t)) && isCopy -> noted = noted | bitOf(t); answer = LOOKS
    :: !(holder != NOBODY && holder != t) && !(noted & bitOf(t)) && !isCopy ->
#else
    :: isCopy || holder == NOBODY || holder == t ->
#endif
      if
#ifdef NO_RULE_IN_LINE_FIRST
      :: holder == NOBODY ->
#else
      :: holder == NOBODY && (mark != NOBODY || last == 0) ->
#endif
        assert(line == 0);                          /* nobody is overtaken */
        occupy(t, 1, 0); answer = GRANTED; answerFence = last
      :: else -> answer = LOOKS
      fi
    fi;
    printf("Redis: %d takes, copy %d: %e", t, isCopy, answer); showState()
  }
}

inline look(t, isCopy, waits) {
  d_step {
    if
    :: stored[t] != NONE -> answer = stored[t]; answerFence = storedFence[t]
    :: else ->
      if
      :: holder == t ->
        lease = 1; touch(); answer = GRANTED; answerFence = last; line = line & ~bitOf(t)
      :: holder == NOBODY ->
        findFirst(t);
        if
        :: first == NOBODY -> occupy(t, 1, 0); answer = GRANTED; answerFence = last; line = line & ~bitOf(t)
        :: else -> line = line & ~bitOf(first); occupy(first, 0, 0); answer = (waits -> WAITING : BUSY)
        fi
      :: else -> answer = (waits -> WAITING : BUSY)
      fi;
      if
      :: answer == WAITING && !(line & bitOf(t)) ->
        line = line | bitOf(t);
        if
        :: ticket[t] == 0 ->
          first = 0;
          for (k : 0 .. CLAIMS - 1) { if :: ticket[k] > first -> first = ticket[k] :: else fi }
          k = 0; ticket[t] = first + 1
        :: else
        fi
      :: answer == BUSY -> line = line & ~bitOf(t)
      :: else
      fi;
#ifndef NO_RULE_COPIES_KEEP_ANSWERS
      if :: isCopy -> stored[t] = answer; storedFence[t] = answerFence :: else fi
#endif
    fi;
    first = 0;
    printf("Redis: %d looks, copy %d, waits %d: %e", t, isCopy, waits, answer); showState()
  }
}

inline handOn(t, hasRows) {
  findFirst(NOBODY);
  answer = RELEASED; heir = NOBODY; behind = NOBODY;
  if
  :: first == NOBODY -> holder = NOBODY; mark = t; touch(); rightful = NOBODY
  :: else ->
    heir = first; line = line & ~bitOf(heir);
    if
    :: hasRows && areOfOneProcess(t, heir) ->
      findFirst(NOBODY);
      if :: first != NOBODY && areOfOneProcess(t, first) -> behind = first :: else fi
    :: else
    fi;
    occupy(heir, (areOfOneProcess(t, heir) -> 1 : 0), (behind == NOBODY -> 0 : 1));
    answerFence = last;
    if :: areOfOneProcess(t, heir) :: else -> heir = NOBODY fi
  fi;
  first = 0
}

/* knowsHeir: the answer tells all of the heir, and not only who it is. */
inline release(t, f, left, isCopy, hasRows) {
  d_step {
    line = line & ~(left); heir = NOBODY; behind = NOBODY; knowsHeir = 0;
    if
    :: holder == t -> handOn(t, hasRows); knowsHeir = 1
    :: holder == NOBODY && mark == t -> answer = RELEASED
    :: holder != t && !(holder == NOBODY && mark == t) ->
      if
#ifndef NO_RULE_FIRST_RELEASE
      :: !isCopy -> answer = LOST_IT
      :: isCopy && (last <= f || (lostFences & bitOf(f))) -> answer = LOST_IT
      :: isCopy && !(last <= f || (lostFences & bitOf(f))) ->
#else
      :: last <= f || (lostFences & bitOf(f)) -> answer = LOST_IT
      :: !(last <= f || (lostFences & bitOf(f))) ->
#endif
        answer = RELEASED; heir = holder;
#ifdef NO_RULE_COPY_ONLY_WAKES
        knowsHeir = (holder != NOBODY); answerFence = last
#endif
      fi
    fi;
    printf("Redis: release of %d, fence %d, left %d, copy %d, rows %d: %e to %d, behind %d", t, f, left, isCopy, hasRows, answer, heir, behind); showState()
  }
}

inline leave(t) {
  d_step {
    line = line & ~bitOf(t); heir = NOBODY; behind = NOBODY; knowsHeir = 0;
    if
    :: holder == t -> handOn(t, 0); knowsHeir = 1
    :: else -> answer = LOST_IT
    fi;
    printf("Redis: %d leaves: %e to %d", t, answer, heir); showState()
  }
}

inline renew(t, length) {
  d_step {
    if
    :: holder == t -> lease = length; touch(); answer = DONE
#ifdef NO_RULE_LAPSED_IS_LOST
    :: holder == NOBODY -> holder = t; mark = NOBODY; lease = length; answer = DONE
#endif
    :: else -> answer = LOST_IT
    fi;
    printf("Redis: renewal of %d, length %d: %e", t, length, answer); showState()
  }
}

inline land(i) {
  assert(rightful == i);                            /* a write of a stale holder never lands */
  assert(!toldNotWritten)                           /* never told wrongly */
}

inline write(i, t) {
  d_step {
    if
    :: hasMarker -> answer = DONE
#ifndef NO_RULE_ENFORCED
    :: !hasMarker && holder == t ->
#else
    :: !hasMarker ->
#endif
      printf("Redis: write of %d as %d: DONE", i, t); showState();
      land(i); hasMarker = 1; answer = DONE
#ifndef NO_RULE_ENFORCED
    :: else -> answer = LOST_IT; printf("Redis: write of %d as %d: LOST_IT", i, t); showState()
#endif
    fi
  }
}

inline execute(i) {
  d_step {
    answer = (isTouched -> LOST_IT : DONE);
    printf("Redis: EXEC of %d: %e", i, answer); showState();
    if :: !isTouched -> land(i) :: else fi;
    watcher = NOBODY; isTouched = 0
  }
}

#define isInTime(f) (!(lapsed & bitOf(f)))

#ifdef NO_RULE_ENFORCED_NOT_PASSED
#define mayPassOn (!isRenewed && isInTime(lastFence))
#else
#ifdef NO_RULE_RENEWED_NOT_PASSED
#define mayPassOn (!isEnforced && isInTime(lastFence))
#else
#ifdef NO_RULE_IN_TIME
#define mayPassOn (!isEnforced && !isRenewed)
#else
#define mayPassOn (!isEnforced && !isRenewed && isInTime(lastFence))
#endif
#endif
#endif

proctype Faults() {
  byte k, first, heir, behind, answerFence;
  byte keptFence;
  bit knowsHeir;
  mtype answer = NONE, kept = NONE;
end:
  do
#ifdef TRACE
  :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true :: true
#endif
  /* A lease ends. Whoever counts on no more than that knows it by his own clock. */
  :: d_step { holder != NOBODY && (lapses > 0 || rightful == NOBODY || (gone & bitOf(rightful))) ->
      if :: rightful != NOBODY && !(gone & bitOf(rightful)) -> lapses-- :: else fi;
      for (k : 0 .. CLAIMS - 1) { if :: counts[k] <= lease -> counts[k] = 0 :: else fi }
      k = 0;
      lapsed = lapsed | bitOf(last);
      if :: rightful != NOBODY -> lostIt = lostIt | bitOf(rightful) :: else fi;
      holder = NOBODY; rightful = NOBODY; touch();
      printf("the lease ends\n") }
#if FLUSHES > 0
  :: d_step { flushes > 0 && last > 0 -> flushes--;
      holder = NOBODY; mark = NOBODY; last = 0; lostFences = 0; line = 0; noted = 0; touch();
      if :: rightful != NOBODY -> lostIt = lostIt | bitOf(rightful) :: else fi;
      rightful = NOBODY;
      /* What is not there ends for nobody by his clock. */
      for (k : 0 .. CLAIMS - 1) { counts[k] = 0 }
      k = 0;
#ifndef NO_RULE_FENCE_OF_CLOCK
      clock = greatest + 1;
#endif
      printf("fault: Redis is flushed\n") }
#endif
  :: atomic { lateKind != NONE ->
      printf("fault: a late request of %d\n", lateWho);
      if
      :: lateKind == TAKE -> take(lateWho, lateIsCopy)
      :: lateKind == LOOK && !lateIsEarlier -> look(lateWho, lateIsCopy, lateWaits)
      :: lateKind == LOOK && lateIsEarlier ->
        kept = stored[lateWho]; keptFence = storedFence[lateWho];
        stored[lateWho] = lateStored; storedFence[lateWho] = lateStoredFence;
        look(lateWho, lateIsCopy, lateWaits);
        stored[lateWho] = kept; storedFence[lateWho] = keptFence; kept = NONE; keptFence = 0
      :: lateKind == RELEASE -> release(lateToken, lateFence, lateLeft, lateIsCopy, 1)
      :: lateKind == RENEW -> renew(lateToken, 1)
      :: lateKind == WRITE -> write(lateWho, lateToken)
      :: lateKind == EXEC -> execute(lateWho)
      fi;
      lateKind = NONE; lateWho = 0; lateToken = 0; lateFence = 0; lateLeft = 0; lateIsCopy = 0; lateWaits = 0; lateIsEarlier = 0; lateStored = NONE; lateStoredFence = 0;
      answer = NONE; heir = 0; behind = 0; answerFence = 0; knowsHeir = 0 }
  od
}

inline isLate(kind, t, f, left) {
  late--; lateKind = kind; lateWho = i; lateIsCopy = isCopy; lateToken = t; lateFence = f; lateLeft = left; lateWaits = waits;
  printf("fault: a request of %d is under way\n", i);
  isCopy = 1
}

/* The time limit of what was sent: from then on it does nothing. */
inline limitPasses() { if :: lateKind != NONE && lateWho == i -> lateKind = NONE; lateWho = 0; lateIsCopy = 0; lateWaits = 0; lateToken = 0; lateIsEarlier = 0; lateStored = NONE; lateStoredFence = 0 :: else fi }

inline begins() {
  counts[i] = (holder == token && last == lastFence -> 1 : 0);
#ifdef NO_RULE_IN_TIME
  counts[i] = 1;
#endif
  works = works | bitOf(i);
  printf("%d has the permit as %d, fence %d\n", i, token, fence);
  if
  :: rightful == i && last == lastFence -> assert(fence > greatestTold)    /* fences rise */
  :: else -> assert(fence != greatestTold)
  fi;
  greatestTold = (fence > greatestTold -> fence : greatestTold)
}

/* What Redis keeps for copies matters while there may be one. */
inline ended() {
  isCopy = 0;
  if :: lateKind != NONE && lateWho == i :: else -> stored[i] = NONE; storedFence[i] = 0; noted = noted & ~bitOf(i) fi
}

inline answerIsLost() { lost--; isCopy = 1; answerFence = 0; printf("fault: the answer to %d is lost\n", i) }

inline isOver() {
  isWaiting[i] = 0; gone = gone | bitOf(i); answer = NONE; heir = 0; behind = 0; answerFence = 0; knowsHeir = 0;
  token = 0; fence = 0; lastFence = 0; left = 0; isCopy = 0; waits = 0; isEnforced = 0; isRenewed = 0;
  if :: line & bitOf(i) :: else -> ticket[i] = 0 fi
}

inline forgetGrant() { hasGrant[i] = 0; grantOf[i] = 0; grantFence[i] = 0; grantLast[i] = 0; grantNext[i] = 0; counts[i] = 0 }

inline tell() {
  printf("%d is told %e\n", i, answer);
  assert((answer == RELEASED) == !(lostIt & bitOf(i)));   /* never told wrongly */
  assert((lostIt & bitOf(i)) || FLUSHES > 0 || holder != i);   /* what it gave back does not come back to it */
  gone = gone | bitOf(i)
}

proctype Claim(byte i) {
  byte k, first, heir, behind = NOBODY, answerFence;
  bit knowsHeir, isCopy, waits = 1, isEnforced, isRenewed;
  mtype answer = NONE;
  byte token = NOBODY, fence, lastFence, left;

#ifdef ROW
  if
  :: atomic { i == 0 -> token = 0; fence = 1; lastFence = 1; goto working }
  :: i == 1 || i == 2 -> goto waiting
  :: isLast(i)
  fi;
#endif
  /* A shorter call, where nobody of the process waits. */
  do
  :: atomic { take(i, isCopy);
      if
      :: ended();
        if :: answer == GRANTED -> goto granted :: answer != GRANTED -> answer = NONE; beginsToLook(); goto looking fi
      :: lost > 0 -> answerIsLost()
      fi }
  :: atomic { late > 0 -> isLate(TAKE, 0, 0, 0) }
  :: atomic { !isCopy -> beginsToLook(); goto looking }
  od;
looking:
  do
  :: atomic { look(i, isCopy, waits);
      if
      :: ended();
        if
        :: answer == GRANTED -> isWaiting[i] = 0; forgetGrant(); goto granted
        :: answer == BUSY && hasGrant[i] -> waits = 1; goto waiting
        :: answer == BUSY && !hasGrant[i] -> isOver(); goto over
        :: answer == WAITING -> isWaiting[i] = 1; answerFence = 0; goto waiting
        fi
      :: lost > 0 -> answerIsLost()
      fi }
  :: atomic { late > 0 -> isLate(LOOK, 0, 0, 0) }
  /* No answer came in time. */
  :: atomic { isCopy && leaves > 0 -> leaves--;
#ifndef NO_RULE_WAIT_OUT
      limitPasses();
#endif
      isWaiting[i] = 0; forgetGrant(); goto leaving }
  od;
waiting:
  atomic {
    answer = NONE;
    if
    :: hasGrant[i] ->
      token = grantOf[i]; fence = grantFence[i]; lastFence = grantLast[i]; behind = grantNext[i];
      forgetGrant();
      if
#ifndef NO_RULE_IN_TIME
      :: !isInTime(lastFence) -> token = NOBODY; fence = 0; lastFence = 0; behind = NOBODY; beginsToLook(); goto looking
      :: isInTime(lastFence) ->
#else
      :: true ->
#endif
        isWaiting[i] = 0;
#ifndef NO_RULE_SERVED_LEAVE
        if :: token != i -> left = bitOf(i) :: else fi;
#endif
        begins();
        goto working
      fi
    /* It looks when it is told to, and when a lease ends. */
    :: !hasGrant[i] && (holder == NOBODY || holder == i) -> beginsToLook(); goto looking
    :: !hasGrant[i] && leaves > 0 -> leaves--;
      if
      :: waits = 0; beginsToLook(); goto looking
      :: isWaiting[i] = 0; goto leaving
      fi
    fi
  };
granted:
  atomic {
    token = i; fence = answerFence; lastFence = answerFence; answerFence = 0; answer = NONE; behind = NOBODY;
    if
#ifndef NO_RULE_IN_TIME
    :: !isInTime(fence) -> goto leaving
    :: isInTime(fence)
#else
    :: true
#endif
    fi;
    begins()
  };
working:
  do
  :: atomic { renewals > 0 && !isRenewed -> renewals--; isRenewed = 1;
      if
      :: renew(token, 1); answer = NONE
      :: late > 0 -> isLate(RENEW, token, 0, 0); isCopy = 0
      fi }
  /* A transaction needs the lease for longer. One renewal at a time. */
  :: atomic { renewals > 0 && !(lateKind == RENEW && lateWho == i) && counts[i] == 1 && holder == token -> renewals--;
      renew(token, 2); counts[i] = 2; isRenewed = 1; answer = NONE }
  :: atomic { writes > 0 -> writes--; isEnforced = 1;
      if
      :: goto writing
      :: true ->
#ifndef NO_RULE_WATCH_PERMIT
        watcher = i; isTouched = 0;
#endif
        printf("Redis: WATCH of %d as %d", i, token); showState();
#ifndef NO_RULE_VERIFY
        if :: holder == token -> goto watching :: else -> watcher = NOBODY fi
#else
        goto watching
#endif
      fi }
  /* To the next of its row, without Redis. */
  :: atomic { behind != NOBODY && mayPassOn && isWaiting[behind] && !hasGrant[behind] ->
      printf("%d passes the permit on to %d\n", i, behind);
      hasGrant[behind] = 1; grantOf[behind] = token; grantFence[behind] = lastFence; grantLast[behind] = lastFence; grantNext[behind] = NOBODY;
      counts[behind] = counts[i]; counts[i] = 0;
      if :: rightful == i -> rightful = behind :: else -> lostIt = lostIt | bitOf(behind) fi;
      gone = gone | bitOf(i);
#ifndef NO_RULE_PASSED_ENFORCES_NOTHING
      token = NO_TOKEN;
#endif
      goto passed }
  :: atomic { !(behind != NOBODY && mayPassOn && isWaiting[behind] && !hasGrant[behind]) ->
      counts[i] = 0;
      if :: token == i -> gone = gone | bitOf(i) :: else fi;
      if
      :: release(token, lastFence, left, isCopy, !isEnforced);
        if
        :: tell();
          if
          :: knowsHeir && heir != NOBODY -> goto handOver
          :: !(knowsHeir && heir != NOBODY) -> isOver(); goto over
          fi
        :: lost > 0 -> answerIsLost()
        fi
      :: late > 0 && !isEnforced -> isLate(RELEASE, token, lastFence, left)
      fi;
      goto releasing }
  od;
releasing:
  do
  :: atomic { release(token, lastFence, left, isCopy, !isEnforced);
      if
      :: tell();
        if
        :: knowsHeir && heir != NOBODY -> goto handOver
        :: !(knowsHeir && heir != NOBODY) -> isOver(); goto over
        fi
      :: lost > 0 -> answerIsLost()
      fi }
  od;
writing:
  do
  :: atomic { write(i, token);
      if
      :: ended(); if :: answer == LOST_IT -> toldNotWritten = 1 :: answer != LOST_IT fi; answer = NONE; goto working
      :: lost > 0 -> answerIsLost()
      fi }
  :: atomic { late > 0 -> isLate(WRITE, token, 0, 0) }
  :: atomic { isCopy -> isCopy = 0; answer = NONE; goto working }          /* the outcome is unknown */
  od;
watching:
  if
  :: atomic { execute(i); answer = NONE; goto working }
  :: atomic { late > 0 -> isLate(EXEC, token, 0, 0); isCopy = 0; goto working }
  fi;
handOver:
  atomic {
    if
    :: isWaiting[heir] && !hasGrant[heir] ->
      hasGrant[heir] = 1; grantOf[heir] = heir; grantNext[heir] = behind; grantLast[heir] = answerFence;
      grantFence[heir] = (behind == NOBODY -> answerFence : answerFence - 1);
      counts[heir] = (holder == heir && last == answerFence -> 1 : 0)
    :: else
    fi;
    isOver();
    goto over
  };
leaving:
  atomic {
    isWaiting[i] = 0; gone = gone | bitOf(i); leave(i);
    if
    :: knowsHeir && heir != NOBODY -> goto handOver
    :: else -> isOver(); goto over
    fi
  };
passed:
  /* What still runs under it. */
  atomic {
    if
    :: writes > 0 -> writes--; printf("%d writes behind its release, as %d\n", i, token); write(i, token)
    :: true
    fi;
    isOver()
  };
over:
  skip
}

init {
  atomic {
#ifdef ROW
    works = 1; counts[0] = 1; greatestTold = 1;
    holder = 0; rightful = 0; lease = 1; last = 1; greatest = 1; isWaiting[1] = 1; isWaiting[2] = 1;
    line = 6; ticket[1] = 1; ticket[2] = 2;
#endif
    stored[0] = NONE; stored[1] = NONE; stored[2] = NONE;
#ifdef ROW
    stored[3] = NONE;
    run Claim(3);
#endif
    run Faults(); run Claim(0); run Claim(1); run Claim(2)
  }
}
