/** BullMQ as the worker processes meet it: a job runs in one process, again after a pause that it asks for, and elsewhere when its process falls silent. */
import type { Life, World } from './world.ts'

/** @param started how often the job has been started, this time included. @returns the pause until it runs again, in ms; undefined when it is over */
export type Run<Worker> = (worker: Worker, started: number) => Promise<number | undefined>

export interface Jobs<Worker> {
  /** One with this id that is there already stays, and is started at once where it waits for its time. */
  add(id: string, run: Run<Worker>): void
  /** A process was killed or stopped: where it stays silent, others take its jobs after 3 to 6 s. */
  silent(life: Life): void
  /** FLUSHALL. What runs goes on. */
  flush(): void
}

interface Job<Worker> {
  run: Run<Worker>
  started: number
  /** Raised with each start and each pause: what belongs to an earlier one is void. */
  turn: number
  life: Life | undefined
}

const NOBODY_FREE_MS = 100

/** @param free a process that takes jobs now, if there is one */
export function playJobs<Worker extends { life: Life }>(world: World, free: () => Worker | undefined): Jobs<Worker> {
  const jobs = new Map<string, Job<Worker>>()

  function plan(id: string, job: Job<Worker>, ms: number): void {
    job.turn += 1
    job.life = undefined
    const { turn } = job
    world.after(ms, () => {
      if (jobs.get(id) === job && job.turn === turn) start(id, job)
    })
  }

  function start(id: string, job: Job<Worker>): void {
    const worker = free()
    if (!worker) return plan(id, job, NOBODY_FREE_MS)
    job.turn += 1
    job.started += 1
    job.life = worker.life
    void drive(id, job, worker)
  }

  async function drive(id: string, job: Job<Worker>, worker: Worker): Promise<void> {
    const { turn } = job
    const pauseMs = await job.run(worker, job.started)
    if (jobs.get(id) !== job || job.turn !== turn) return
    if (pauseMs === undefined) jobs.delete(id)
    else plan(id, job, pauseMs)
  }

  return {
    add(id, run) {
      const known = jobs.get(id)
      if (known?.life) return
      const job = known ?? { run, started: 0, turn: 0, life: undefined }
      jobs.set(id, job)
      plan(id, job, world.chance.between(0.2, 1))
    },
    silent(life) {
      for (const [id, job] of jobs) {
        if (job.life !== life) continue
        const { turn } = job
        world.after(world.chance.between(3000, 6000), () => {
          const isSilent = !life.alive || life.thawsAt > world.now()
          if (isSilent && jobs.get(id) === job && job.turn === turn) plan(id, job, 0)
        })
      }
    },
    flush: () => jobs.clear(),
  }
}
