/*
 * Model 3: the lease of a job, and its completion in the EXEC of a transaction.
 * docs/proofs.md explains it. Modelled: lib/queues.
 *
 * Two consumers take one job. Each ends a delivery by a transaction with completesJob, or gives the
 * job back. The lease may end whenever it is not sure to outlast the deadline key D.
 *
 * Each rule of the design is on, unless NO_RULE_… is defined.
 */

/* Bounds. */
#ifndef TURNS
#define TURNS 3      /* of each consumer */
#endif
#ifndef DELIVERIES
#define DELIVERIES 4
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif

mtype = { NONE, DONE, REFUSED, CUT };

/* Redis: the job. */
bit exists = 1, isPending = 1, isLeased, isLapsed;
byte ended;                     /* deliveries that have ended: the fence of the present one */
bit hasD[2], hadD[2];           /* the deadline key of each consumer's connection; at WATCH */
bit covers[2];                  /* the lease was seen to outlast D */
bit isSent[2];                  /* its EXEC is on its way, and may arrive late */
bit isTouched[2];               /* a resolver has touched the marker */
mtype answer[2];

byte fence[2];
byte effects;
byte kills = KILLS, losses = LOSSES;

/* Nobody was given the job after this delivery. That its time is over does not end it. */
#define isHeld(i) (isLeased && ended == fence[i])

inline execute(i) {
  isSent[i] = 0;
  if
#ifndef NO_RULE_DEADLINE_KEY
  :: hadD[i] && !hasD[i] -> answer[i] = REFUSED
#endif
  :: isTouched[i] -> answer[i] = REFUSED
#ifndef NO_RULE_DEADLINE_KEY
  :: !(hadD[i] && !hasD[i]) && !isTouched[i] ->
#else
  :: !isTouched[i] ->
#endif
    answer[i] = DONE;
    printf("Redis: EXEC of consumer %d: effects and acknowledgement of delivery %d; delivery is %d\n", i, fence[i], ended);
    assert(effects == 0);                       /* never twice */
    assert(isHeld(i));                          /* a delivery that lost its job has no effect */
    effects++;
    exists = 0; isLeased = 0; isPending = 0; isLapsed = 0
  fi;
  printf("EXEC of consumer %d: %e\n", i, answer[i])
}

proctype Redis() {
end:
  do
  :: d_step { isSent[0] -> execute(0) }
  :: d_step { isSent[1] -> execute(1) }
  /* D expires. */
  :: d_step { hasD[0] -> hasD[0] = 0; printf("the deadline key of consumer 0 expires\n") }
  :: d_step { hasD[1] -> hasD[1] = 0; printf("the deadline key of consumer 1 expires\n") }
  /* The lease ends; not before a D that it was seen to outlast. */
  :: d_step { isLeased && !isLapsed && !(hasD[0] && covers[0] && isHeld(0)) && !(hasD[1] && covers[1] && isHeld(1)) ->
      isLapsed = 1; printf("the lease of delivery %d ends\n", ended) }
  od
}

inline giveBack(i) {
  if
#ifndef NO_RULE_FENCED_END
  :: !isHeld(i) -> printf("Redis: consumer %d gives back: lost\n", i)
  :: isHeld(i) ->
#else
  :: !exists -> printf("Redis: consumer %d gives back: lost\n", i)
  :: exists ->
    assert(isHeld(i));                          /* a job that another one works at is not given away */
#endif
    isLeased = 0; isLapsed = 0; ended++; isPending = 1;
    printf("Redis: consumer %d gives back: done\n", i)
  fi
}

proctype Consumer(byte i) {
  byte turns;
again:
  atomic {
    hasD[i] = 0; hadD[i] = 0; covers[i] = 0; isTouched[i] = 0; answer[i] = NONE; fence[i] = 99;
    if
    :: turns == TURNS || !exists || ended >= DELIVERIES -> goto over
    :: turns < TURNS && exists && ended < DELIVERIES && (isPending || isLapsed) ->
      turns++;
      if :: isLapsed -> ended++ :: else fi;
      isPending = 0; isLeased = 1; isLapsed = 0; fence[i] = ended;
      printf("Redis: consumer %d takes delivery %d\n", i, ended)
    :: turns < TURNS && exists && isLeased -> turns++; goto again
    fi
  };
  if
  :: atomic { kills > 0 -> kills--; printf("fault: consumer %d is killed\n", i) }; goto dead
  :: atomic { true -> giveBack(i) }; goto again
  :: true
  fi;
#ifdef NO_RULE_VERIFY_BEHIND_WATCH
  atomic {
    if :: isHeld(i) && !isLapsed -> covers[i] = 1 :: else -> goto again fi
  };
#endif
  /* The lease is prolonged past the deadline. */
  atomic {
    if :: isHeld(i) -> isLapsed = 0 :: else -> goto again fi;
    printf("Redis: consumer %d prolongs the lease of delivery %d\n", i, ended)
  };
  /* WATCH of a new D, and behind it the score and the fence. */
  atomic {
    hasD[i] = 1; hadD[i] = 1;
#ifndef NO_RULE_VERIFY_BEHIND_WATCH
#ifdef NO_RULE_FENCE
    if :: isLeased :: else -> goto again fi;
#else
    if :: isHeld(i) :: else -> goto again fi;
#endif
#ifndef NO_RULE_COVERS
    if
    :: !isLapsed -> covers[i] = 1
    :: goto again                               /* too short by Redis's clock: prolonged again */
    fi;
#endif
#endif
    printf("consumer %d has watched D; delivery %d, lease outlasts D: %d\n", i, ended, covers[i])
  };
  atomic { isSent[i] = 1; printf("consumer %d sends EXEC\n", i) };
#ifdef NO_RULE_REFUSE_OWN_END
  /* The handler itself gives the job back meanwhile. */
  if :: atomic { true -> giveBack(i) } :: true fi;
#endif
  atomic {
    if
    :: answer[i] == DONE -> goto over
    :: answer[i] == REFUSED -> goto again
    :: kills > 0 && isSent[i] -> kills--; printf("fault: consumer %d is killed, its EXEC on its way\n", i); goto dead
    /* The reply is lost: decided by the marker, once and for all (model 1). */
    :: losses > 0 -> losses--;
      printf("fault: consumer %d loses its connection\n", i);
      if
      :: isSent[i] -> isTouched[i] = 1
      :: else
      fi;
      if
      :: answer[i] == DONE -> goto over
      :: else -> goto lost
      fi
    fi
  };
lost:
  /* What is on its way is refused whenever it comes. A new connection has keys of its own. */
  atomic { !isSent[i] -> goto again };
over:
dead:
  skip
}

/* Never lost: a job that is gone has had its effect. */
#ifndef TRACE
active proctype Watcher() {
end:
  atomic { !exists && effects == 0 -> assert(false) }
}
#endif

init {
  atomic {
    answer[0] = NONE; answer[1] = NONE;
    run Redis(); run Consumer(0); run Consumer(1)
  }
}
