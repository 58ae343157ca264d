import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SlowLink {
  readonly url: string;
  stop(): Promise<void>;
}

/** A TCP proxy that lets each connection receive no more than so many bytes in a second. */
export async function startSlowLink(
  target: { readonly host: string; readonly port: number },
  bytesPerSecond: number,
): Promise<SlowLink> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(upstream);
    void (async () => {
      for await (const chunk of upstream) {
        for (let at = 0; at < (chunk as Buffer).length; at += bytesPerSecond / 20) {
          const part = (chunk as Buffer).subarray(at, at + bytesPerSecond / 20);
          // If the link closes instead, the next bytes are not awaited.
          if (!client.write(part)) await once(client, 'drain');
          if (part.length > 1_000) await sleep((part.length / bytesPerSecond) * 1_000);
        }
      }
    })().catch(() => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
