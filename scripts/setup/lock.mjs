import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, ScriptError } from './process.mjs';

const directory = join(root, '.setup');
const file = join(directory, 'lock');
const maxWaitMs = 15 * 60_000;

/**
 * Runs `work` while no other process of this checkout is inside `locked`. The lock of a killed
 * holder is taken over.
 */
export async function locked(work) {
  mkdirSync(directory, { recursive: true });
  const id = await acquire();
  const release = () => {
    if (holder()?.id === id) rmSync(file, { force: true });
  };
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

async function acquire() {
  const id = randomUUID();
  const draft = join(directory, `lock.${id}`);
  writeFileSync(draft, JSON.stringify({ id, pid: process.pid }));
  try {
    const deadline = Date.now() + maxWaitMs;
    let announced = false;
    // A link appears with its content, so no process ever reads a half-written lock.
    while (!attempt(() => linkSync(draft, file))) {
      const other = holder();
      if (other && !isAlive(other.pid) && takeOver(other.id)) continue;
      if (Date.now() > deadline) {
        throw new ScriptError(
          `Another set-up has held ${file} for 15 minutes. If none is running, delete that file.`,
        );
      }
      if (other && !announced) {
        announced = true;
        console.error(`Waiting for the set-up or build of process ${other.pid} …`);
      }
      await sleep(100);
    }
    return id;
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * Only one process may remove the lock of a dead holder, or a slow one would remove its
 * successor's. The marker that decides who is named after that very holder and stays for good.
 */
function takeOver(id) {
  if (!attempt(() => writeFileSync(join(directory, `taken-over.${id}`), '', { flag: 'wx' }))) return false;
  rmSync(file, { force: true });
  return true;
}

function holder() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function attempt(act) {
  try {
    act();
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}
