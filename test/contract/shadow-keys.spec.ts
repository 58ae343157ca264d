import { CrossSlotError, ShadowKeyService, type ShadowWriter } from 'nestjs-atomic-redis';
import { AWKWARD_KEYS } from '../support/awkward-keys.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';

describe('shadow keys', () => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  const shadowKeys = (): ShadowKeyService => target.app.get(ShadowKeyService);

  it.each<[string, (writer: ShadowWriter) => Promise<void>]>([
    ['hash', (writer) => writer.hset({ a: '1', b: '2' })],
    ['list', (writer) => writer.rpush('a', 'b')],
    ['set', (writer) => writer.sadd('a', 'b')],
    ['zset', (writer) => writer.zadd({ a: 1, b: 2 })],
    ['stream', (writer) => writer.xadd({ a: '1' })],
    ['string', (writer) => writer.set('a')],
    ['string', (writer) => writer.append('a')],
  ])('[SRV-1] a %s replaces the live value, and a rollback restores it', async (type, build) => {
    await target.client.set('app:{shadow}', 'old');
    expect(
      await shadowKeys().replace('app:{shadow}', build, { keepPrevious: true, version: 2 }),
    ).toMatchObject({
      swapped: true,
    });
    expect(await target.client.type('app:{shadow}')).toBe(type);
    expect(await shadowKeys().replace('app:{shadow}', build, { version: 1 })).toMatchObject({
      swapped: false,
    });
    expect(await shadowKeys().rollback('app:{shadow}')).toBe(true);
    expect(await target.client.get('app:{shadow}')).toBe('old');
  });

  it('[SRV-3] a build of many chunks is invisible to readers before its swap', async () => {
    const seen = new Set<number>();
    const { written } = await shadowKeys().replace('app:large', async (writer) => {
      for (let i = 0; i < 20; i++) {
        await writer.hset(Array.from({ length: 1_000 }, (_, n) => [`f${i}:${n}`, 'x'] as const));
        seen.add(await target.client.hlen('app:large'));
      }
    });
    expect(written).toBe(20_000);
    expect([...seen]).toEqual([0]);
    expect(await target.client.hlen('app:large')).toBe(20_000);
  });

  it('[SRV-2] keys of every kind are replaced within their slot', async () => {
    for (const awkward of AWKWARD_KEYS) {
      const key = `app:${awkward}`;
      await shadowKeys().replace(key, (writer) => writer.rpush('x'));
      expect(await target.client.llen(key)).toBe(1);
    }
  });

  it('[SRV-1] several keys of one slot are replaced together', async () => {
    const build = (writer: ShadowWriter): Promise<void> => writer.rpush('x');
    await shadowKeys().replaceAll({ 'app:{s}:a': build, 'app:{s}:b': build });
    expect(await target.client.exists('app:{s}:a', 'app:{s}:b')).toBe(2);
    if (!target.isCluster) return;
    await expect(shadowKeys().replaceAll({ 'app:{s}:a': build, 'app:{t}:b': build })).rejects.toThrow(
      CrossSlotError,
    );
  });
});
