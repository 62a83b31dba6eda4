import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { JobAnswer, JobParams, JobsQuery, RepairBody, VerifyBody } from '../schemas/jobs.js'
import { NDJSON } from '../schemas/media-types.js'
import { Type } from '../schemas/type.js'
import { success } from '../schemas/wire.js'
import { jobAnswer } from '../services/jobs/answer.js'
import type { JobService } from '../services/jobs.js'
import { answers } from './answers.js'

export interface JobRoutesOptions {
  jobs: JobService
}

const tags = ['operation']

/** Verifications and repairs, asked for here and run by whichever server leads their jobs. */
export const jobRoutes: FastifyPluginAsyncTypebox<JobRoutesOptions> = async (app, { jobs }) => {
  app.post(
    '/dualstore/verify',
    {
      schema: {
        tags,
        operationId: 'startVerification',
        summary: 'Compare the mirror with PostgreSQL, as a job',
        body: VerifyBody,
        response: answers({ 202: success(JobAnswer) }),
      },
    },
    async (request, reply) => {
      const job = await jobs.start('verify', request.body, request.access)
      return reply.code(202).send({ success: true as const, data: jobAnswer(job) })
    },
  )

  app.post(
    '/dualstore/repair',
    {
      schema: {
        tags,
        operationId: 'startRepair',
        summary: 'Bring to the mirror what differs from PostgreSQL, as a job; first of all a dry run',
        body: RepairBody,
        response: answers({ 202: success(JobAnswer) }),
      },
    },
    async (request, reply) => {
      const job = await jobs.start('repair', request.body, request.access)
      return reply.code(202).send({ success: true as const, data: jobAnswer(job) })
    },
  )

  app.get(
    '/dualstore/jobs',
    {
      schema: {
        tags,
        operationId: 'listJobs',
        summary: 'List jobs, the newest first',
        querystring: JobsQuery,
        response: answers({ 200: success(Type.Array(JobAnswer)) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: (await jobs.list(request.query)).map(jobAnswer),
    }),
  )

  app.get(
    '/dualstore/jobs/:id',
    {
      schema: {
        tags,
        operationId: 'getJob',
        summary: 'Show a job, with its progress or its result',
        params: JobParams,
        response: answers({ 200: success(JobAnswer) }),
      },
    },
    async (request) => ({ success: true as const, data: jobAnswer(await jobs.get(request.params.id)) }),
  )

  app.get(
    '/dualstore/jobs/:id/differences',
    {
      exposeHeadRoute: false,
      compress: {},
      schema: {
        tags,
        operationId: 'listDifferences',
        summary: 'What a job has found so far, as NDJSON',
        produces: [NDJSON],
        params: JobParams,
        response: answers({ 200: Type.String({ description: 'One document a line, by collection and id' }) }),
      },
    },
    async (request, reply) => {
      const lines = await jobs.findings(request.params.id)
      return reply.type(NDJSON).send(Readable.from(lines, { objectMode: false }))
    },
  )

  app.post(
    '/dualstore/jobs/:id/cancel',
    {
      schema: {
        tags,
        operationId: 'cancelJob',
        summary: 'End a job; what it has done stays',
        params: JobParams,
        response: answers({ 200: success(JobAnswer) }),
      },
    },
    async (request) => ({ success: true as const, data: jobAnswer(await jobs.cancel(request.params.id)) }),
  )
}
