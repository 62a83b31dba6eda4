import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { MirrorStatus, Moved, Overview } from '../schemas/mirrors.js'
import { Type } from '../schemas/type.js'
import { storableText, success } from '../schemas/wire.js'
import type { MirrorControl } from '../services/mirror-control.js'
import type { OverviewService } from '../services/overview.js'
import { answers } from './answers.js'

export interface DualstoreRoutesOptions {
  overview: OverviewService
  mirrorControl: MirrorControl
}

const tags = ['operation']
const MirrorParams = Type.Object({ name: Type.String({ description: 'The only one today is "mirror"' }) })
/** A body that may be left out. */
const optional = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Union([Type.Object(properties, { additionalProperties: false }), Type.Null()])
const mirrorAnswer = answers({ 200: success(MirrorStatus) })

/** How the two stores stand to each other, and what an operator may order of a mirror. */
export const dualstoreRoutes: FastifyPluginAsyncTypebox<DualstoreRoutesOptions> = async (app, options) => {
  const { overview, mirrorControl } = options

  app.get(
    '/dualstore/status',
    {
      schema: {
        tags,
        operationId: 'dualstoreStatus',
        summary:
          'How far each mirror is, who leads it and what keeps it; every instance gives the same answer',
        response: answers({ 200: success(Overview) }),
      },
    },
    async () => ({ success: true as const, data: await overview.read() }),
  )

  app.post(
    '/dualstore/mirrors/:name/pause',
    {
      schema: {
        tags,
        operationId: 'pauseMirror',
        summary: 'Let changes wait in the log',
        params: MirrorParams,
        body: optional({ reason: Type.Optional(storableText({ maxLength: 1000 })) }),
        response: mirrorAnswer,
      },
    },
    async (request) => {
      const { name } = request.params
      const data = await mirrorControl.pause(name, request.body?.reason, request.access)
      return { success: true as const, data }
    },
  )

  app.post(
    '/dualstore/mirrors/:name/resume',
    {
      schema: {
        tags,
        operationId: 'resumeMirror',
        summary: 'Let a paused mirror go on where it stopped',
        params: MirrorParams,
        response: mirrorAnswer,
      },
    },
    async (request) => ({
      success: true as const,
      data: await mirrorControl.resume(request.params.name, request.access),
    }),
  )

  app.post(
    '/dualstore/mirrors/:name/rebuild',
    {
      schema: {
        tags,
        operationId: 'rebuildMirror',
        summary: 'Build a mirror anew in the background, under its readers',
        params: MirrorParams,
        body: optional({
          restart: Type.Optional(Type.Boolean({ description: 'Begin again although one is under way' })),
        }),
        response: answers({ 202: success(MirrorStatus) }),
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const data = await mirrorControl.rebuild(name, request.body ?? {}, request.access)
      return reply.code(202).send({ success: true as const, data })
    },
  )

  app.post(
    '/dualstore/mirrors/:name/position',
    {
      schema: {
        tags,
        operationId: 'setMirrorPosition',
        summary: 'Let a paused mirror go on from another place of the log',
        params: MirrorParams,
        body: Type.Object(
          {
            position: Type.String({ maxLength: 100, description: '<epoch>-<number>' }),
            confirm: Type.Optional(
              Type.String({
                maxLength: 100,
                description: 'The name again; without it 400 tells what would happen',
              }),
            ),
            force: Type.Optional(Type.Boolean({ description: 'Go forward although changes are skipped' })),
          },
          { additionalProperties: false },
        ),
        response: answers({ 200: success(Moved) }),
      },
    },
    async (request) => ({
      success: true as const,
      data: await mirrorControl.setPosition(request.params.name, request.body, request.access),
    }),
  )
}
