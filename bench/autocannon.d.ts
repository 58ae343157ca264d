declare module 'autocannon' {
  interface Result {
    readonly '2xx': number;
    readonly non2xx: number;
    readonly errors: number;
  }
  export default function autocannon(options: {
    url: string;
    connections: number;
    duration: number;
    method: string;
    body: string;
    requests: { setupRequest: <Request extends object>(request: Request) => Request }[];
  }): Promise<Result>;
}
